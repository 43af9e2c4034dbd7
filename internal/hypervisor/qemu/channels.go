package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// channels are the connections between us and one QEMU.
type channels struct {
	backends  [channelCount]string // in -chardev's words
	ours      [channelCount]net.Conn
	theirs    []*os.File                      // to inherit, from descriptor 3 on
	listeners [channelCount]*net.UnixListener // or, to be connected to
}

func newChannels(dir string) (*channels, error) {
	if runtime.GOOS == "windows" {
		return namedChannels(dir)
	}
	return inheritedChannels()
}

// namedChannels are sockets in the instance's directory, for hosts on which
// QEMU cannot inherit one. We listen and QEMU connects, so that neither has
// to poll for the other.
func namedChannels(dir string) (*channels, error) {
	c := &channels{}
	for i, id := range channelIDs {
		path := filepath.Join(dir, id+".sock")
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("removing an old socket: %w", err), c.close())
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listening for QEMU: %w", err), c.close())
		}
		c.listeners[i] = l
		c.backends[i] = "socket,path=" + escape(path)
	}
	return c, nil
}

// args are the channels as a launch takes them.
func (c *channels) args() []channel {
	all := make([]channel, 0, channelCount)
	for i, backend := range c.backends {
		all = append(all, channel{channelIDs[i], backend})
	}
	return all
}

// connect waits until QEMU holds the other ends, or has ended. Nobody else can
// connect afterwards. From then on QEMU's end is seen as that of its
// connections, after all that it had said: a guest may well end at once.
func (c *channels) connect(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	for _, f := range c.theirs {
		f.Close()
	}
	c.theirs = nil
	for i, l := range c.listeners {
		if l == nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
		conn, err := l.Accept()
		stop()
		if err != nil {
			return fmt.Errorf("waiting for QEMU to connect: %w", errors.Join(ctx.Err(), err))
		}
		c.ours[i] = conn
		c.listeners[i] = nil
		if err := l.Close(); err != nil {
			return fmt.Errorf("closing a socket: %w", err)
		}
	}
	return nil
}

// close gives up what is still held.
func (c *channels) close() error {
	var errs []error
	for _, f := range c.theirs {
		errs = append(errs, f.Close())
	}
	for _, l := range c.listeners {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	for _, conn := range c.ours {
		if conn != nil {
			conn.Close() // may be closed already
		}
	}
	return errors.Join(errs...)
}
