package registrytest

import (
	"os/exec"
	"syscall"
)

// endWithParent lets the process end with this one, however that ends.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
