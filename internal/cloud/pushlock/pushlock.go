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

// Wait waits until no other process has the lock at path, a file in a folder
// that is there.
func Wait(ctx context.Context, path string) (*Lock, error) {
	for {
		l := &Lock{flock.New(path)}
		if _, err := l.file.TryLockContext(ctx, 200*time.Millisecond); err != nil {
			_ = l.file.Close()
			return nil, fmt.Errorf("waiting for another push of the same disk: %w", err)
		}
		if l.current() {
			return l, nil
		}
		_ = l.file.Close()
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
