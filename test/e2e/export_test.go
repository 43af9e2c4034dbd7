//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExport: what an application writes stays on an exported disk, and it has
// the room of the whole disk, also of one that was enlarged later.
func TestExport(t *testing.T) {
	c := newCapstan(t)
	dir := t.TempDir()
	buildProbe(t, filepath.Join(dir, "probe"), "amd64")
	file := "cmdline: /probe boots /boots\nfiles: {/probe: probe}\nenv: {FROM_IMAGE: kept}\nmemory: 64M\n"
	if err := os.WriteFile(filepath.Join(dir, "Capstanfile"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "boots", dir)
	small := filepath.Join(dir, "small")
	if r := c.run(t, "export", "boots", "--disk", "20M", "-o", small); r.status != 1 || !strings.Contains(r.stderr, "is too small: the image needs") || !strings.Contains(r.stderr, "try: --disk ") {
		t.Errorf("on a small disk: %+v", r)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*small*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	path := filepath.Join(dir, "disk")
	c.must(t, "export", "boots", "--disk", "20G", "-o", path)
	boot := func(n int, free string) {
		t.Helper()
		console := bootUEFI(t, hardware{disk: "-device virtio-blk-pci,drive=d"}, "raw", path).end(0)
		if want := fmt.Sprintf("boot %d of kept, %s free", n, free); !strings.Contains(console, want) {
			t.Errorf("the console does not say %q", want)
		}
	}
	boot(1, "19 GiB")
	if err := os.Truncate(path, 40<<30); err != nil {
		t.Fatal(err)
	}
	boot(2, "39 GiB")
	boot(3, "39 GiB")
	out, err := exec.Command(need(t, "sgdisk", "gdisk"), "-v", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk: %v\n%s", err, out)
	}
	c.bootOVA(t, "boots")
	c.checkNothingLeft(t)
}

// bootOVA exports an image as a machine, and boots its disk with the memory that
// it says: the firmware wants more than the image.
func (c *capstan) bootOVA(t *testing.T, image string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "m.ova")
	c.must(t, "export", image, "-o", path)
	if out, err := exec.Command("tar", "-xf", path, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	ovf, err := os.ReadFile(filepath.Join(dir, image+".ovf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<rasd:VirtualQuantity>256</rasd:VirtualQuantity>", `<Memory RAMSize="256"/>`} {
		if !strings.Contains(string(ovf), want) {
			t.Fatalf("the machine has no %s:\n%s", want, ovf)
		}
	}
	// QEMU reads streams, and does not write them.
	disk := filepath.Join(dir, "disk")
	out, err := exec.Command("qemu-img", "convert", "-f", "vmdk", "-O", "raw", filepath.Join(dir, image+"-disk1.vmdk"), disk).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	hw := hardware{disk: "-device ide-hd,drive=d,bus=ide.0", nic: "vmxnet3", memory: "256M"}
	if console := bootUEFI(t, hw, "raw", disk).end(0); !strings.Contains(console, "boot 1 of kept") {
		t.Error("the machine's disk does not run its application")
	}
}
