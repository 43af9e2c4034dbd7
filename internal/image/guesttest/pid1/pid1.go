//go:build linux

// Package pid1 is the frame of a program that a test boots as a guest's
// PID 1: see package guesttest.
package pid1

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Main does what run does, with /dev mounted and os.Stdout on the console, and
// says "PASS" or "FAIL: why" in a line before it ends the guest.
func Main(run func() error) {
	err := console()
	if err == nil {
		err = run()
	}
	if err != nil {
		fmt.Println("FAIL:", err)
	} else {
		fmt.Println("PASS")
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		fmt.Println("restarting:", err)
	}
}

func console() error {
	if err := Mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil {
		return err
	}
	f, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	os.Stdout = f
	return nil
}

// Mount mounts on a directory that it makes, if nothing is mounted there.
func Mount(source, target, fstype string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, fstype, flags, data); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mounting %s on %s: %w", source, target, err)
	}
	return nil
}
