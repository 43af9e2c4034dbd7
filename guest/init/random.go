//go:build linux

package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// seedWait bounds the wait for random numbers.
const seedWait = 20 * time.Second

// seeded returns a channel that is closed once the kernel has random numbers
// to give; where it has, that is at once. On a machine with neither RDRAND nor
// virtio-rng the kernel gets them from its clock's jitter, in a second or two,
// but only while somebody waits for them in getrandom(2).
func seeded() <-chan struct{} {
	done := make(chan struct{})
	var b [1]byte
	if _, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); err != unix.EAGAIN {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		for err := error(unix.EINTR); err == unix.EINTR; {
			_, err = unix.Getrandom(b[:], 0)
		}
	}()
	return done
}
