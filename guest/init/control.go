//go:build linux

package main

import (
	"io"
	"time"

	"github.com/hashicorp/yamux"

	"capstan/guest/api"
)

// serveControl serves the REST API on the control port, one yamux session
// after the other, for as long as the machine runs.
func (g *guest) serveControl() {
	p, err := openPort(api.ControlPort)
	if err != nil {
		g.log.warnf("%v", err)
		return
	}
	if p == nil {
		return
	}
	for {
		if err := g.serveSession(p); err != nil {
			g.log.debugf("the control channel: %v", err)
		}
	}
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

// await returns when the host has sent the first bytes.
func (s *session) await() error {
	if err := s.port.SetDeadline(time.Time{}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := s.port.read(buf, false)
	s.first = buf[:n]
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
