//go:build unix

package repo

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"
)

// isFull reports whether err means that no more can be written: a full disk,
// a full quota, or the process's file size limit.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// mountPoint returns the highest directory on the file system of path.
func mountPoint(path string) string {
	dev := func(p string) (uint64, bool) {
		fi, err := os.Stat(p)
		if err != nil {
			return 0, false
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, false
		}
		return uint64(st.Dev), true //nolint:unconvert // its type differs by system
	}
	have, ok := dev(path)
	for !ok && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		have, ok = dev(path)
	}
	for ok {
		up := filepath.Dir(path)
		d, found := dev(up)
		if up == path || !found || d != have {
			break
		}
		path = up
	}
	return path
}

// syncDir makes renames into dir survive a crash of the host.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// rename replaces to by from.
func rename(from, to string) error { return os.Rename(from, to) }

// removeLock gives a lock back and removes its file, in the order in which
// nobody else can have got it in between.
func removeLock(lock *flock.Flock) {
	if current(lock) {
		_ = os.Remove(lock.Path())
	}
	_ = lock.Close()
}
