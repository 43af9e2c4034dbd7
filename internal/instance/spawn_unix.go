//go:build unix

package instance

import "syscall"

// detached is a session of its own: a terminal's signals and its end are for
// the command that the user sees.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
