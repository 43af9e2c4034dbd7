package main

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/vim25/mo"

	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// TestVSphereMemory: a machine gets what its firmware needs, whatever its image
// wants; who asks for less is told.
func TestVSphereMemory(t *testing.T) {
	s := vspheretest.Start(t, vspheretest.Options{Tools: "192.0.2.9"})
	w := appWorld(t, s.Env()...)
	w.write("small/Capstanfile", "cmdline: /bin/app\nmemory: 64M\nfiles:\n  /bin/app: app\n")
	w.write("small/app", "#!/bin/sh\n")
	w.must("build", "small", "small")
	r := w.capstan("run", "--on", "vsphere", "-d", "-m", "64M", "app")
	const want = "the vsphere driver cannot run a machine with 64 MiB of memory\n  try: -m 256M\n"
	if r.status != exitUsage || !strings.HasSuffix(r.stderr, want) {
		t.Errorf("%+v; want %q", r, want)
	}
	w.must("run", "--on", "vsphere", "-d", "--name", "tiny", "small")
	c := s.Client(t.Context())
	defer c.Logout(t.Context())
	vm, err := find.NewFinder(c.Client).VirtualMachine(t.Context(), "/...")
	if err != nil {
		t.Fatal(err)
	}
	var seen mo.VirtualMachine
	if err := vm.Properties(t.Context(), vm.Reference(), []string{"config.hardware"}, &seen); err != nil {
		t.Fatal(err)
	}
	if got := seen.Config.Hardware.MemoryMB; got != 256 {
		t.Errorf("the machine has %d MB", got)
	}
	w.must("rm", "-f", "tiny")
}
