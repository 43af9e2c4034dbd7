//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/hypervisor/vmware/vmwaretest"
)

// newVMware is a capstan with the probe and a program that stands in for VMware's
// vmrun: it checks the .vmx file and boots what that names under QEMU.
func newVMware(t *testing.T) *capstan {
	t.Helper()
	vmrun := vmwaretest.New(t, "../..")
	c := newProbe(t)
	if err := os.WriteFile(filepath.Join(c.root, "config.yaml"), []byte("vmrun_path: "+vmrun+"\non: vmware\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestVMware is the life of instances on VMware Workstation's stand-in.
func TestVMware(t *testing.T) {
	c := newVMware(t)
	if r := c.run(t, "run", "--rm", "-m", "256M", "-e", "X=a b", probe, "/probe", "say", "hello", "there"); r.status != 0 || r.stdout != "hello there\n" {
		t.Errorf("it says %+v", r)
	}
	if r := c.run(t, "run", "--rm", "-m", "256M", probe, "/probe", "exit", "7"); r.status != 7 {
		t.Errorf("its end: %+v", r)
	}
	if r := c.run(t, "run", "--rm", "-p", "80:80", probe); r.status == 0 || !strings.Contains(r.stderr, "vmware driver cannot") {
		t.Errorf("a port: %+v", r)
	}
	c.ready(t, "kept", []string{"-m", "256M"}, "/times")
	if got := c.must(t, "stats", "kept"); !strings.Contains(got, "kept") { // by the control channel
		t.Errorf("its counters: %q", got)
	}
	c.must(t, "stop", "-t", grace, "kept")
	if s, _ := c.ps(t, "kept", "-a"); s.Status != "exited" || s.ExitCode != 0 {
		t.Errorf("stopped, it is %+v", s)
	}
	c.must(t, "start", "kept")
	c.waitReady(t, "kept", 2)
	if log := c.must(t, "logs", "kept"); !strings.Contains(log, "times started: 2\n") {
		t.Errorf("what it wrote is gone: %q", log)
	}
	c.must(t, "kill", "kept")
	if s, _ := c.ps(t, "kept", "-a"); s.Status != "exited" || s.ExitCode != 137 {
		t.Errorf("killed, it is %+v", s)
	}
	c.must(t, "rm", "kept")
	c.checkNothingLeft(t)
}
