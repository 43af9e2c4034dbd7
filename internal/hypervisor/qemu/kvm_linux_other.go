//go:build linux && !amd64

package qemu

import (
	"errors"
	"os"
)

// timeKVM is not reached: the guest is of another architecture.
func timeKVM(*os.File) error { return errors.New("KVM cannot run an " + guestArch + " guest here") }
