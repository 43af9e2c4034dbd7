// Package vmwaretest gives tests a stand-in for VMware's vmrun, the program in
// the folder vmrun.
package vmwaretest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// New makes one, with machines of its own, and returns its path. None may run in
// the end. repo is the path of the repository's top folder.
func New(t *testing.T, repo string) string {
	t.Helper()
	dir := t.TempDir()
	vmrun, vmware := filepath.Join(dir, "vmrun"), filepath.Join(repo, "internal/hypervisor/vmware")
	build := exec.Command("go", "build", "-o", vmrun, filepath.Join(vmware, "vmwaretest/vmrun"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the stand-in: %v\n%s", err, out)
	}
	keys, err := filepath.Abs(filepath.Join(vmware, "testdata/keys.txt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("VMRUN_STATE", dir)
	t.Setenv("VMRUN_KEYS", keys)
	t.Cleanup(func() {
		out, err := exec.Command(vmrun, "-T", "ws", "list").Output()
		if string(out) != "Total running VMs: 0\n" {
			t.Errorf("left running: %q, %v", out, err)
		}
	})
	return vmrun
}
