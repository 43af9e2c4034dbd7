package source

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func changeTime(st *syscall.Stat_t) int64 { return st.Ctim.Nano() }

// capability returns the file capabilities of an open file, or nil.
func capability(f *os.File) ([]byte, error) {
	var buf [64]byte // struct vfs_ns_cap_data has 24
	n, err := unix.Fgetxattr(int(f.Fd()), "security.capability", buf[:])
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return buf[:n], nil
}
