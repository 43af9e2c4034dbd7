package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"capstan/internal/cloud/gce"
	"capstan/internal/instance"
)

// TestInterruptedAsItFails: of what fails as an interrupt comes, the interrupt
// is told, and what is left; of what fails without one, why.
func TestInterruptedAsItFails(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	refused := errors.New("the cloud says no")
	a := &app{settings: settings{Root: t.TempDir()}}
	undo := func(ctx context.Context, cmd *cobra.Command) error {
		inst, err := a.instances().Create(instance.Config{Name: "web"}, func(string) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return a.undo(ctx, cmd, inst, refused)
	}
	for _, tt := range []struct {
		what   string
		ctx    context.Context
		do     func(context.Context, *cobra.Command) error
		status int
		says   string
	}{
		{"an instance is made", over, undo, exitInterrupted, "capstan: interrupted\n"},
		{"an instance is made, and nobody interrupts", t.Context(), undo, exitFailure, "capstan: the cloud says no\n"},
		{"a disk is sent", over, func(ctx context.Context, _ *cobra.Command) error {
			return interrupted(ctx, &gce.CutError{Err: refused, Left: "gs://bucket"})
		}, exitInterrupted, "capstan: the cloud says no\n  try: the same command again, which goes on where it was; gcloud storage rm --recursive gs://bucket removes what is there\n" +
			"capstan: interrupted\n"},
		{"something is removed", over, func(ctx context.Context, _ *cobra.Command) error {
			return &leftError{"web", interrupted(ctx, refused), refused}
		}, exitInterrupted, "capstan: interrupted; and what was made of web is left: the cloud says no\n  try: capstan rm -f web\n"},
	} {
		var out strings.Builder
		cmd := &cobra.Command{Use: "run"}
		cmd.SetErr(&out)
		if status := report(&out, cmd, tt.do(tt.ctx, cmd)); status != tt.status || out.String() != tt.says {
			t.Errorf("%s: status %d\n%s", tt.what, status, &out)
		}
	}
}
