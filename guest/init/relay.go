//go:build linux

package main

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// relayBuffer is as large as a pipe, so that one turn empties it.
const relayBuffer = 64 << 10

// relay carries the application's output to the console.
type relay struct {
	done  chan struct{} // closed when all has been carried
	moved atomic.Int64
}

// startRelay starts a relay. If the console fails, the application's output
// is dropped: it must not stand still for that. The console takes a piece at a
// time.
func startRelay(to io.Writer, from *os.File, piece int) *relay {
	r := &relay{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		defer from.Close()
		buf := make([]byte, piece)
		var werr error
		for {
			n, err := from.Read(buf)
			if n > 0 && werr == nil {
				_, werr = to.Write(buf[:n])
			}
			r.moved.Add(int64(n))
			if err != nil { // the end; EIO is a terminal's
				return
			}
		}
	}()
	return r
}

// drain waits until all has been carried, or nothing has moved for stall.
func (r *relay) drain(stall time.Duration) bool {
	watch := time.NewTicker(stall)
	defer watch.Stop()
	for last := int64(-1); ; {
		select {
		case <-r.done:
			return true
		case <-watch.C:
			now := r.moved.Load()
			if now == last {
				return false
			}
			last = now
		}
	}
}

// input carries the console's input to the application.
type input struct {
	mu       sync.Mutex
	to       *os.File
	terminal bool
	moved    int64 // bytes since boot
	closeAt  int64 // close when moved reaches this, if not negative
	closed   bool
}

// startInput starts to carry. It ends with the machine.
func startInput(to *os.File, from io.Reader, terminal bool) *input {
	in := &input{to: to, terminal: terminal, closeAt: -1}
	go func() {
		buf := make([]byte, 16<<10)
		for {
			n, err := from.Read(buf)
			in.write(buf[:n])
			if err != nil {
				in.close(0)
				return
			}
		}
	}()
	return in
}

// write passes b on. What comes after the end, or to an application that has
// closed its input, is dropped.
func (in *input) write(b []byte) {
	in.mu.Lock()
	closed := in.closed
	in.mu.Unlock()
	if !closed {
		if _, err := in.to.Write(b); err != nil {
			in.close(0)
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.moved += int64(len(b))
	in.closeIfDue()
}

// close ends the application's input once so many bytes have come from the
// host since boot.
func (in *input) close(after int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closeAt = max(after, 0)
	in.closeIfDue()
}

// closeIfDue is called with the lock held. A terminal stays open: its end of
// input is a character.
func (in *input) closeIfDue() {
	if in.closed || in.closeAt < 0 || in.moved < in.closeAt {
		return
	}
	in.closed = true
	if in.terminal {
		const endOfTransmission = 4
		go in.to.Write([]byte{endOfTransmission}) // may have to wait for the application
		return
	}
	in.to.Close()
}
