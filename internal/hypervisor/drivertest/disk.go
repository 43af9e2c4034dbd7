package drivertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/hypervisor"
	"capstan/internal/image/disk/compose"
	"capstan/internal/image/disk/export"
)

// Kernel is the guest's kernel with the suite's guest linked in as its PID 1, for
// drivers that need a disk to boot from. repo is the path of the repository's top
// folder.
func Kernel(t *testing.T, repo string) []byte {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "guest")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, filepath.Join(repo, "internal/hypervisor/drivertest/guest"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	link := exec.Command(filepath.Join(repo, "guest/kernel/build.sh"), dir)
	link.Env = append(os.Environ(), "INIT="+program)
	for _, cmd := range []*exec.Cmd{build, link} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	kernel, err := os.ReadFile(filepath.Join(dir, "guest-amd64"))
	if err != nil {
		t.Fatal(err)
	}
	return kernel
}

// DiskSpec makes the specs of machines with so much memory that boot from a disk,
// behind a NAT such as QEMU's and VirtualBox's. Nothing but the disk and the
// kernel's log may be left in their directories.
func DiskSpec(memory int64) func(t *testing.T) *hypervisor.Spec {
	return func(t *testing.T) *hypervisor.Spec {
		dir := t.TempDir()
		spec := &hypervisor.Spec{Name: "conformance", Dir: dir, Memory: memory, CPUs: 1, KernelLog: filepath.Join(dir, "kernel.log")}
		spec.Guest.Network.Address = "10.0.2.15/24"
		t.Cleanup(func() { // when the machine has ended
			left, err := os.ReadDir(dir)
			if err != nil {
				t.Error(err)
			}
			for _, e := range left {
				if path := filepath.Join(dir, e.Name()); path != spec.Bootable && path != spec.KernelLog {
					t.Errorf("left behind: %s", path)
				}
			}
		})
		return spec
	}
}

// compose writes spec.Bootable: a disk in the driver's format with the suite's
// guest and the spec's config. Its root is empty, as the guest needs none.
func (s suite) compose(t *testing.T, spec *hypervisor.Spec) {
	t.Helper()
	config, err := json.Marshal(spec.Guest)
	if err != nil {
		t.Fatal(err)
	}
	d := compose.Disk{Size: 256 << 20, Kernel: s.kernel, Config: config, Root: bytes.NewReader(nil), Seed: spec.Dir}
	l, err := d.Layout()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(spec.Bootable)
	if err != nil {
		t.Fatal(err)
	}
	to := export.Disk{Size: l.Size, Name: filepath.Base(spec.Bootable), ID: d.ID(l), Content: func(ctx context.Context, w io.WriterAt) error {
		return d.Write(ctx, w, l)
	}}
	err = export.Write(t.Context(), f, export.Format(s.driver.Capabilities().Disk), to)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
