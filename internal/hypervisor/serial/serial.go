// Package serial is what drivers have in common whose machines tell what they
// do by serial ports: the kernel's log, and the channels of a guest on machines
// that have no better ports.
package serial

import (
	"bytes"
	"io"
	"sync"

	"capstan/guest/api"
)

// port is a serial port whose guest is not heard before it says that the port
// is its: until then the machine's firmware and kernel have it.
type port struct {
	line  io.ReadWriteCloser
	heard chan struct{} // closed once the guest has said so, or never will
	err   error         // why it never will; for after heard
	rest  []byte        // what came right behind the hello, read by Read alone
	close func() error
}

// newPort begins to listen.
func newPort(line io.ReadWriteCloser, hello string) *port {
	p := &port{line: line, heard: make(chan struct{}), close: sync.OnceValue(line.Close)}
	go func() { // ends with the line
		defer close(p.heard)
		p.rest, p.err = skipHello(line, []byte(hello))
	}()
	return p
}

// skipHello reads up to the hello and returns what it has read beyond.
func skipHello(r io.Reader, hello []byte) (rest []byte, err error) {
	seen, buf := []byte(nil), make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		seen = append(seen, buf[:n]...)
		if _, rest, ok := bytes.Cut(seen, hello); ok {
			return rest, nil
		}
		if err != nil {
			return nil, err
		}
		seen = append([]byte(nil), seen[max(0, len(seen)-len(hello)+1):]...)
	}
}

// Read waits for the hello, then for what the guest says.
func (p *port) Read(b []byte) (int, error) {
	<-p.heard
	if p.err != nil {
		return 0, p.err
	}
	if len(p.rest) > 0 {
		n := copy(b, p.rest)
		p.rest = p.rest[n:]
		return n, nil
	}
	return p.line.Read(b)
}

// Write waits for the hello.
func (p *port) Write(b []byte) (int, error) {
	<-p.heard
	if p.err != nil {
		return 0, p.err
	}
	return p.line.Write(b)
}

// Control is a serial port that carries the guest's REST API.
type Control struct{ *port }

// NewControl begins to listen on a port. It is to be closed.
func NewControl(line io.ReadWriteCloser) *Control {
	return &Control{newPort(line, api.ControlHello)}
}

// Close ends the line, whoever waits for it. It may be called more than once.
func (c *Control) Close() error { return c.close() }

// Console is a serial port that is the application's console. It takes input
// once the guest listens on its control channel, since the port loses what comes
// before somebody reads it, and ends with io.EOF whichever way its machine ended.
type Console struct {
	port    *port
	control *Control
}

// NewConsole is the console of the guest that control is of.
func NewConsole(line io.ReadWriteCloser, control *Control) *Console {
	return &Console{newPort(line, api.ConsoleHello), control}
}

// Read waits for output.
func (c *Console) Read(b []byte) (int, error) {
	n, err := c.port.Read(b)
	if err != nil {
		// The machine's end is the only reason, however the line shows it.
		c.port.close()
		err = io.EOF
	}
	return n, err
}

// Write waits for the guest to listen.
func (c *Console) Write(b []byte) (int, error) {
	<-c.control.heard
	if c.control.err != nil {
		return 0, c.control.err
	}
	return c.port.line.Write(b)
}
