//go:build !linux && !windows

package qemu

import (
	"os/exec"
	"syscall"
)

// detach gives cmd a process group of its own.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

func startContained(cmd *exec.Cmd) (release func(), err error) {
	return func() {}, cmd.Start()
}
