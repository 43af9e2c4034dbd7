//go:build linux

// Package vboxtest gives tests a real VirtualBox: Debian unstable's, in a root of
// its own, where its VBoxManage does all but switch machines on. That is done by
// the program in the folder shim.
package vboxtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	rootName = "vbox"
	suite    = "sid,contrib"
	// without are dependencies that VBoxManage has no use for.
	without = "^(virtualbox|systemd|python|libgl1|libsdl2|iproute2)"
)

// VirtualBox is one with a configuration of its own.
type VirtualBox struct {
	// Real is VBoxManage as it is. Path is the same, but that it can switch
	// machines on.
	Real, Path string
	state      string
}

// New makes one, in this process's environment. repo is the path of the
// repository's top folder.
func New(t *testing.T, repo string) *VirtualBox {
	t.Helper()
	script, err := filepath.Abs(filepath.Join(repo, "scripts/debroot.sh"))
	if err != nil {
		t.Fatal(err)
	}
	root := exec.Command(script, "make", rootName, suite, "virtualbox")
	root.Env = append(os.Environ(), "DEBROOT_WITHOUT="+without)
	if out, err := root.CombinedOutput(); err != nil {
		t.Fatalf("getting Debian's virtualbox: %v\n%s", err, out)
	}
	dir, err := os.MkdirTemp("/tmp", "vboxtest-") // sockets' paths must be short
	if err != nil {
		t.Fatal(err)
	}
	v := &VirtualBox{Real: filepath.Join(dir, "real", "VBoxManage"), Path: filepath.Join(dir, "shim", "VBoxManage"), state: filepath.Join(dir, "state")}
	for name, value := range map[string]string{
		"VBOX_USER_HOME": filepath.Join(dir, "home"), "VBOX_IPC_SOCKETID": filepath.Base(dir),
		"SHIM_ROOT": rootName, "SHIM_DEBROOT": script, "SHIM_STATE": v.state,
	} {
		t.Setenv(name, value)
	}
	t.Cleanup(func() { v.remove(t, dir) })
	for _, d := range []string{filepath.Dir(v.Real), filepath.Dir(v.Path), v.state} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	forward := fmt.Sprintf("#!/bin/sh\nexec '%s' run %s VBoxManage \"$@\"\n", script, rootName)
	if err := os.WriteFile(v.Real, []byte(forward), 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", v.Path, filepath.Join(repo, "internal/hypervisor/vbox/vboxtest/shim"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the shim: %v\n%s", err, out)
	}
	return v
}

// Run runs the real VBoxManage and returns what it printed.
func (v *VirtualBox) Run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(v.Real, args...)
	cmd.WaitDelay = 10 * time.Second
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("VBoxManage %s: %v\n%s%s", strings.Join(args, " "), err, out, &said)
	}
	return string(out)
}

// Registered are the machines and disks that VirtualBox knows.
func (v *VirtualBox) Registered(t *testing.T) (lines []string) {
	t.Helper()
	for _, what := range []string{"vms", "hdds"} {
		for line := range strings.Lines(v.Run(t, "list", what)) {
			if strings.HasPrefix(line, `"`) || strings.HasPrefix(line, "UUID:") || strings.HasPrefix(line, "Location:") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}

// Running are the machines that are switched on.
func (v *VirtualBox) Running(t *testing.T) (uuids []string) {
	t.Helper()
	states, err := filepath.Glob(filepath.Join(v.state, "*.state"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range states {
		if b, err := os.ReadFile(path); err == nil && string(b) == "running" {
			uuids = append(uuids, strings.TrimSuffix(filepath.Base(path), ".state"))
		}
	}
	return uuids
}

// remove ends what still runs, and fails the test for what is registered.
func (v *VirtualBox) remove(t *testing.T, dir string) {
	for _, uuid := range v.Running(t) {
		t.Errorf("the machine %s still runs", uuid)
		if out, err := exec.Command(v.Path, "controlvm", uuid, "poweroff").CombinedOutput(); err != nil {
			t.Errorf("ending it: %v\n%s", err, out)
		}
	}
	if left := v.Registered(t); len(left) > 0 {
		t.Errorf("left in VirtualBox: %q", left)
	}
	if t.Failed() {
		logs, _ := filepath.Glob(filepath.Join(v.state, "*.log"))
		for _, path := range logs {
			if said, err := os.ReadFile(path); err == nil && len(said) > 0 {
				t.Logf("QEMU said: %s", said)
			}
		}
	}
	// VirtualBox's service ends a few seconds after the last command, and
	// writes into its folder until then.
	for range 300 {
		if err := os.RemoveAll(dir); err == nil {
			if _, err := os.Stat(filepath.Join("/tmp", ".vbox-"+filepath.Base(dir)+"-ipc", "ipcd")); err != nil {
				break
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	os.RemoveAll(filepath.Join("/tmp", ".vbox-"+filepath.Base(dir)+"-ipc"))
	os.RemoveAll(dir)
}
