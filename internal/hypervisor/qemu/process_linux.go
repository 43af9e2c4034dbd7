package qemu

import (
	"os/exec"
	"syscall"
)

// detach gives cmd a process group of its own, and death with its parent.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func startContained(cmd *exec.Cmd) (release func(), err error) {
	return func() {}, cmd.Start()
}
