//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mount is one call of mount(2).
type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return fmt.Errorf("making the mount point %s: %w", m.target, err)
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", m.kind, m.target, err)
	}
	return nil
}

// mountEarly mounts what PID 1 itself works with; mountRoot moves it into
// the application's root.
func mountEarly() error {
	const safe = unix.MS_NOSUID | unix.MS_NOEXEC
	for _, m := range []mount{
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"proc", "/proc", "proc", safe | unix.MS_NODEV, ""},
		{"sysfs", "/sys", "sysfs", safe | unix.MS_NODEV, ""},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

// until calls found at once and after every device event, and returns true as
// soon as that does, or false when limit is over.
func until(limit time.Duration, found func() bool) bool {
	if found() {
		return true
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return false
	}
	buf := make([]byte, 8192)
	for deadline := time.Now().Add(limit); ; {
		if found() {
			return true
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return false
		}
		// What happened does not matter, only that something did.
		for n := 1; n > 0; {
			if n, err = unix.Read(fd, buf); err != nil {
				break
			}
		}
	}
}

// attribute reads a sysfs file of one line; "" if there is none. Small files
// of the kernel are read and written without os.File, whose first use sets
// the runtime's poller up: it costs a start several milliseconds.
func attribute(parts ...string) string {
	fd, err := unix.Open(filepath.Join(parts...), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var page [4096]byte
	n, err := unix.Read(fd, page[:])
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ReplaceAll(string(page[:n]), "\x00", ""))
}

// setAttribute writes a file of the kernel's that exists.
func setAttribute(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}
