package serial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// connectTimeout bounds the wait for a hypervisor to connect.
const connectTimeout = time.Minute

// Lines are a machine's serial ports, to which its hypervisor connects when it
// switches the machine on.
type Lines struct {
	// Folder is one of the sockets' own, to be removed with the machine; "" where
	// they are where they were asked for.
	Folder    string
	listeners []net.Listener
	conns     []net.Conn
}

// Addresses are where the hypervisor is to connect.
func (l *Lines) Addresses() []string {
	var all []string
	for _, listener := range l.listeners {
		all = append(all, listener.Addr().String())
	}
	return all
}

// Accept takes the connections, one of each. Nobody else can connect afterwards.
func (l *Lines) Accept(ctx context.Context) ([]net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for _, listener := range l.listeners {
		stop := context.AfterFunc(ctx, func() { listener.Close() })
		conn, err := listener.Accept()
		stop()
		if err != nil {
			return nil, fmt.Errorf("waiting for a serial port to be connected: %w", errors.Join(ctx.Err(), err))
		}
		l.conns = append(l.conns, conn)
	}
	return l.conns, l.hush()
}

// hush ends the listening.
func (l *Lines) hush() error {
	var errs []error
	for _, listener := range l.listeners {
		errs = append(errs, listener.Close())
	}
	l.listeners = nil
	return errors.Join(errs...)
}

// Close gives up what is connected, and the listening.
func (l *Lines) Close() error {
	for _, conn := range l.conns {
		conn.Close() // may be closed already
	}
	return l.hush()
}
