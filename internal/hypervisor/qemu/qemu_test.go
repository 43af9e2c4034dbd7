package qemu

import (
	"os/exec"
	"testing"
)

// realQEMU is the emulator of this host, which tests cannot do without.
func realQEMU(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: it is in the package qemu-system-x86", err)
	}
	return path
}
