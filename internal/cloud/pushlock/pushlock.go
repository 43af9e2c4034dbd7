// Package pushlock keeps two processes of this host from being at one push at
// once, and one host from removing what another has just pushed.
package pushlock

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// Lock is had by one process at a time, until that closes it or ends.
type Lock struct{ file *flock.Flock }

// patience bounds the wait for another process: a push of much over a slow line
// takes that long.
const patience = 2 * time.Hour

// BusyError tells that another process has the lock for longer than anybody
// waits.
type BusyError struct{ Patience time.Duration }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another push of the same disk has not ended in %s", e.Patience)
}

// Hint is the way out.
func (e *BusyError) Hint() string {
	return "the same command again, once the other capstan of this host has ended"
}

// Wait waits until no other process has the lock at path, a file in a folder
// that is there. It tells progress, in parts of a hundred, if it has to.
func Wait(ctx context.Context, path string, progress func(what string, done, total int64)) (*Lock, error) {
	return wait(ctx, path, patience, progress)
}

func wait(ctx context.Context, path string, patience time.Duration, progress func(what string, done, total int64)) (*Lock, error) {
	const what = "waiting for another push of the same disk"
	if l, err := Try(path); l != nil || err != nil {
		return l, err
	}
	progress(what, 0, 100)
	bound, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		l := &Lock{flock.New(path)}
		_, err := l.file.TryLockContext(bound, 200*time.Millisecond)
		if err == nil && l.current() {
			progress(what, 100, 100)
			return l, nil
		}
		_ = l.file.Close()
		if bound.Err() != nil && ctx.Err() == nil {
			return nil, &BusyError{patience}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
}

// Try returns nil where another process has the lock.
func Try(path string) (*Lock, error) {
	l := &Lock{flock.New(path)}
	free, err := l.file.TryLock()
	if err == nil && free && l.current() {
		return l, nil
	}
	_ = l.file.Close()
	return nil, err
}

// current tells whether the file is still the one at its path: Close removes
// it, and who has waited for that has nothing.
func (l *Lock) current() bool {
	held, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.file.Path())
	return err == nil && os.SameFile(held, there)
}

// Close lets others have the lock. Windows removes no file that is open.
func (l *Lock) Close() {
	err := os.Remove(l.file.Path())
	_ = l.file.Close()
	if err != nil {
		_ = os.Remove(l.file.Path()) // another one has it then
	}
}
