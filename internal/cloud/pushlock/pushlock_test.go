package pushlock

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// TestWait: a lock that another one has is waited for with a word, and not for
// ever.
func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var told []string
	event := make(chan struct{}, 1)
	progress := func(what string, done, total int64) {
		told = append(told, fmt.Sprint(what, " ", done, "/", total))
		event <- struct{}{}
	}
	first, err := Wait(t.Context(), path, progress)
	if err != nil || len(told) > 0 {
		t.Fatalf("a lock that is free: %v, %q", err, told)
	}
	var busy *BusyError
	if l, err := wait(t.Context(), path, 1, progress); l != nil || !errors.As(err, &busy) {
		t.Errorf("one that is not: %v", err)
	}
	<-event
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l, err := Wait(ctx, path, progress); l != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("after an interrupt: %v", err)
	}
	<-event
	told = nil
	go func() {
		<-event
		first.Close()
	}()
	second, err := Wait(t.Context(), path, progress)
	const what = "waiting for another push of the same disk "
	if want := []string{what + "0/100", what + "100/100"}; err != nil || !slices.Equal(told, want) {
		t.Fatalf("%v; told: %q, want %q", err, told, want)
	}
	second.Close()
}
