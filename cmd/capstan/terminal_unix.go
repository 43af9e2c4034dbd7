//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"capstan/internal/instance"
)

// resizes tells the guest the terminal's size, now and whenever it changes.
func resizes(ctx context.Context, inst *instance.Instance, fd int) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		if cols, rows, err := term.GetSize(fd); err == nil {
			inst.Resize(ctx, rows, cols)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
