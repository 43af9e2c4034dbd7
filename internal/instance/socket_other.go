//go:build !linux

package instance

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
)

func listen(dir string) (net.Listener, error) {
	l, err := net.Listen("unix", filepath.Join(dir, socketFile))
	if err != nil {
		return nil, fmt.Errorf("opening the supervisor's socket: %w", err)
	}
	return l, nil
}

func dial(ctx context.Context, dir string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, socketFile))
}
