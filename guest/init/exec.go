//go:build linux

package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// maxFrame bounds one frame of an exec stream from the host, in bytes.
const maxFrame = 1 << 20

// serveExec starts a program beside the application and connects it to the
// host by the frames that api.ExecRequest describes.
func (g *guest) serveExec(x *exchange) {
	var req api.ExecRequest
	if !x.accept(&req) {
		return
	}
	if len(req.Args) == 0 || req.Args[0] == "" || strings.ContainsRune(strings.Join(req.Args, ""), 0) {
		x.refuse(statusBadRequest, errors.New("the request names no program"))
		return
	}
	if req.User == "" {
		req.User = g.cfg.User
	}
	if req.Workdir == "" {
		req.Workdir = g.cfg.Workdir
	}
	req.Env = append(append([]string{}, g.cfg.Env...), req.Env...)
	p, s, err := g.spawn(req, false)
	if uerr := x.upgrade("capstan-exec"); uerr != nil && err == nil {
		_ = g.procs.signal(p, unix.SIGKILL) // nobody is left who wants it
	}
	frames := &frameWriter{w: x.out}
	if err != nil {
		frames.exit(exitOf(err))
		return
	}
	defer s.closeOurs()
	go func() {
		takeFrames(x.in, s)
		// The host has gone away: its program goes too, as from a terminal
		// that is closed. Without a host that reads it could hang for ever.
		_ = g.procs.signal(p, unix.SIGHUP)
	}()
	var outputs sync.WaitGroup
	outputs.Go(func() { frames.copy(api.StreamStdout, s.stdout) })
	if s.stderr != s.stdout {
		outputs.Go(func() { frames.copy(api.StreamStderr, s.stderr) })
	}
	outputs.Wait() // until the last that has the streams is gone
	<-p.done
	frames.exit(ended(p.status))
}

// takeFrames passes what the host sends on, until its end.
func takeFrames(r io.Reader, s *streams) {
	var head [5]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(head[1:])
		if size > maxFrame {
			return
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		switch head[0] {
		case api.StreamStdin:
			takeStdin(s, body)
		case api.StreamResize:
			var size api.ResizeRequest
			if json.Unmarshal(body, &size) == nil {
				_ = resize(s.terminal, size.Rows, size.Cols) // a wrong size changes nothing
			}
		}
	}
}

// takeStdin passes input on; an empty frame is its end. A program that does
// not read any more loses it.
func takeStdin(s *streams, body []byte) {
	switch {
	case s.stdin == nil:
	case len(body) > 0:
		_, _ = s.stdin.Write(body)
	case s.terminal != nil:
		_, _ = s.stdin.Write([]byte{4}) // a terminal's end of input is a character
	default:
		_ = s.stdin.Close()
	}
}

// frameWriter sends frames, from several goroutines.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(stream byte, body []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := binary.BigEndian.AppendUint32([]byte{stream}, uint32(len(body)))
	if _, err := f.w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("sending a frame: %w", err)
	}
	return nil
}

func (f *frameWriter) copy(stream byte, from *os.File) {
	buf := make([]byte, 32<<10)
	var werr error
	for {
		n, err := from.Read(buf)
		if n > 0 && werr == nil {
			werr = f.write(stream, buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (f *frameWriter) exit(e api.Exit) {
	doc, err := json.Marshal(e)
	if err != nil {
		return // a struct of ints, bools and strings always marshals
	}
	_ = f.write(api.StreamExit, doc) // or the host has gone away
}
