package instance

import (
	"context"
	"fmt"
	"net"
	"os"
)

// A socket's address holds 107 bytes, less than many a path to an instance.
// The directory is opened first, and the socket named through it.

func listen(dir string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the supervisor's socket: %w", err)
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: through(d), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the supervisor's socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // the name is valid only here
	return l, nil
}

func dial(ctx context.Context, dir string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return new(net.Dialer).DialContext(ctx, "unix", through(d))
}

func through(d *os.File) string { return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketFile) }
