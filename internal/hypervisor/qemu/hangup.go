//go:build unix

package qemu

import (
	"fmt"
	"os/exec"
	"syscall"

	"github.com/creack/pty"
)

// startOnTerminal starts cmd in a session of its own, on a terminal whose
// other end only we hold. When that closes, at the latest with the end of this
// process, however it comes, the kernel hangs up: QEMU gets SIGHUP, which it
// takes for a request to end (os_setup_signal_handling in its os-posix.c).
// This is for systems that have no better way. It is built, and tested, on
// Linux too.
func startOnTerminal(cmd *exec.Cmd) (release func(), err error) {
	ours, theirs, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("opening a terminal for QEMU: %w", err)
	}
	defer theirs.Close()
	cmd.Stdin = theirs // its only use is that it is the session's
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	return func() { ours.Close() }, nil
}
