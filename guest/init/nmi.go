//go:build linux

package main

import (
	"bytes"
	"io"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// A non-maskable interrupt that no device has a reason for is one that
// somebody has sent: hypervisors have a command for it, vSphere's SendNMI
// among them, which needs nothing in the guest. The kernel takes note and
// goes on (arch/x86/kernel/nmi.c, unknown_nmi_error), and its note is how
// PID 1 learns of it.

// nmiNote is in a record of the kernel's own: facility 0, which no process can
// give its records, and priority 0 (Documentation/ABI/testing/dev-kmsg).
var nmiNote = []byte("NMI received for unknown reason")

// watchNMI makes an NMI a request to stop.
func (g *guest) watchNMI() {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Seek(fd, 0, io.SeekEnd)
	}
	if err != nil {
		g.log.warnf("watching for a request to stop: %v", err)
		return
	}
	go func() { // ends with the machine
		record := make([]byte, 8<<10)
		for {
			n, err := unix.Read(fd, record)
			switch {
			case err == unix.EINTR, err == unix.EPIPE: // EPIPE: records were overwritten
			case err != nil:
				g.log.warnf("watching for a request to stop: %v", err)
				return
			case isNMI(record[:n]):
				g.stops <- api.StopRequest{Timeout: -1}
			}
		}
	}()
}

// isNMI tells whether a record of the kernel's log notes an NMI.
func isNMI(record []byte) bool {
	head, text, _ := bytes.Cut(record, []byte(";"))
	return bytes.HasPrefix(head, []byte("0,")) && bytes.Contains(text, nmiNote)
}
