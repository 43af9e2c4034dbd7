package main

import (
	"context"

	"golang.org/x/term"

	"capstan/internal/instance"
)

// resizes tells the guest the terminal's size once: Windows has no signal
// for a change.
func resizes(ctx context.Context, inst *instance.Instance, fd int) {
	if cols, rows, err := term.GetSize(fd); err == nil {
		inst.Resize(ctx, rows, cols)
	}
}
