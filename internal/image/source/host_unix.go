//go:build linux || darwin

package source

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags keep a FIFO that took a file's place from blocking.
const openFlags = syscall.O_RDONLY | syscall.O_NONBLOCK

func metaOf(info fs.FileInfo) meta {
	m := meta{mode: info.Mode(), size: info.Size(), mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.ctime = changeTime(st)
		m.dev, m.ino = uint64(st.Dev), uint64(st.Ino)
		m.nlink, m.rdev = uint64(st.Nlink), uint64(st.Rdev)
	}
	return m
}

func deviceNumbers(rdev uint64) (major, minor int64) {
	return int64(unix.Major(rdev)), int64(unix.Minor(rdev))
}

// slashed returns a host path with slashes.
func slashed(s string) string { return s }
