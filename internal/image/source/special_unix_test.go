//go:build linux || darwin

package source

import (
	"time"

	"golang.org/x/sys/unix"
)

// chtimesLink sets the time of a symbolic link itself.
func chtimesLink(name string, t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Lutimes(name, []unix.Timeval{tv, tv})
}
