//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/hashicorp/yamux"

	"capstan/guest/api"
)

// serveControl serves the REST API on the control port, one yamux session
// after the other, for as long as the machine runs.
func (g *guest) serveControl() {
	p, err := g.openControl()
	if err != nil {
		g.log.warnf("%v", err)
		return
	}
	for again := false; p != nil; again = true {
		if !p.serial {
			if err := greet(p, again); err != nil {
				g.log.warnf("the control channel: %v", err)
				return
			}
		}
		if err := g.serveSession(p); err != nil {
			g.log.debugf("the control channel: %v", err)
		}
	}
}

// openControl opens the control port; nil means that this machine has none.
func (g *guest) openControl() (*port, error) {
	if g.cfg.Control != "" {
		return openSerial(g.cfg.Control)
	}
	return openPort(api.ControlPort)
}

// lineQuiet is how long nothing comes of a session that is over.
const lineQuiet = 200 * time.Millisecond

// greet tells the host that a session can begin on a serial port, which has no
// end to be seen at which one is over. What is still to come of the last one is
// thrown away first. An error means that the port is of no use any more.
func greet(p *port, again bool) error {
	for buf := make([]byte, 4096); again; {
		if err := p.SetDeadline(time.Now().Add(lineQuiet)); err != nil {
			return err
		}
		_, err := p.read(buf, true)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := p.SetDeadline(time.Time{}); err != nil {
		return err
	}
	_, err := p.Write([]byte(api.ControlHello))
	return err
}

// serveSession serves one session: from the first byte that the host sends
// until its end of the port closes or breaks the protocol.
func (g *guest) serveSession(p *port) error {
	s := &session{port: p}
	if err := s.await(); err != nil {
		return err
	}
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive = false // a host may be asleep for any time
	cfg.LogOutput = io.Discard
	mux, err := yamux.Server(s, cfg)
	if err != nil {
		return err
	}
	defer mux.Close()
	for {
		conn, err := mux.Accept()
		if err != nil {
			return err
		}
		go g.serve(conn) // ends with the session at the latest
	}
}

// session is one time that the host has the port open.
type session struct {
	port  *port
	first []byte // bytes that have been read to see whether the host is there
}

// hostWait bounds the wait for the word that the host has opened a port of
// which bytes have come. It is shorter than any host takes that has closed its
// end to come back.
const hostWait = 300 * time.Millisecond

// await returns when the host has sent the first bytes.
func (s *session) await() error {
	if err := s.port.SetDeadline(time.Time{}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := s.port.read(buf, false)
	s.first = buf[:n]
	if err == nil && s.port.serial {
		err = s.port.awaitHost(hostWait)
	}
	return err
}

func (s *session) Read(b []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(b, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	return s.port.read(b, true)
}

func (s *session) Write(b []byte) (int, error) { return s.port.Write(b) }

// Close interrupts what is under way. The port stays open for the next
// session.
func (s *session) Close() error { return s.port.SetDeadline(time.Unix(1, 0)) }
