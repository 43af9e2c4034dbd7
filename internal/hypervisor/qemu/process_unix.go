//go:build !linux && !windows

package qemu

import "os/exec"

// detach has nothing to add: QEMU has a session of its own.
func detach(*exec.Cmd) {}

func startContained(cmd *exec.Cmd) (release func(), err error) { return startOnTerminal(cmd) }
