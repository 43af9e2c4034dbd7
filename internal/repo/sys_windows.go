package repo

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// System error codes of WinError.h.
const (
	errAccessDenied     = syscall.Errno(5)
	errSharingViolation = syscall.Errno(32)
	errHandleDiskFull   = syscall.Errno(39)
	errDiskFull         = syscall.Errno(112)
)

// isFull reports whether err means that the disk is full.
func isFull(err error) bool {
	return errors.Is(err, errDiskFull) || errors.Is(err, errHandleDiskFull)
}

// mountPoint returns the volume of path.
func mountPoint(path string) string { return filepath.VolumeName(path) + `\` }

// syncDir does nothing: directories cannot be synced here, and NTFS journals
// renames.
func syncDir(string) error { return nil }

// rename replaces to by from. A file that a reader has open cannot be
// replaced here; readers hold the index for microseconds, and nothing
// announces when they are done, so it tries again for a second.
func rename(from, to string) error {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		err := os.Rename(from, to)
		busy := errors.Is(err, errAccessDenied) || errors.Is(err, errSharingViolation)
		if !busy || time.Now().After(deadline) {
			return err
		}
	}
}

// removeLock gives a lock back and removes its file. A file that somebody has
// open, to wait for the lock, cannot be removed here, and stays.
func removeLock(lock *flock.Flock) {
	_ = lock.Close()
	_ = os.Remove(lock.Path())
}
