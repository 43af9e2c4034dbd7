//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ovmf is UEFI firmware, for machines that run nothing of ours but a disk.
const ovmf = "/usr/share/OVMF/OVMF_CODE_4M.fd"

// bootUEFI boots a disk on a machine as other hypervisors have it, to the
// machine's end, and returns what its serial port said.
func bootUEFI(t *testing.T, format, path, device string) string {
	t.Helper()
	if _, err := os.Stat(ovmf); err != nil {
		t.Fatalf("%v: apt-get install ovmf", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), serveBound)
	defer cancel()
	args := append([]string{
		"-accel", "tcg", "-machine", "q35", "-cpu", "max", "-m", "512M", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile=",
		"-drive", "if=pflash,format=raw,readonly=on,file=" + ovmf,
		"-drive", "if=none,id=d,format=" + format + ",file=" + path,
	}, strings.Fields(device)...)
	out, err := exec.CommandContext(ctx, need(t, "qemu-system-x86_64", "qemu-system-x86"), args...).CombinedOutput()
	if err := errors.Join(err, ctx.Err()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestExport: an exported disk boots to its application by UEFI, in each
// format, on each kind of disk; what is written stays; a file system as large
// as the disk is there.
func TestExport(t *testing.T) {
	c := newCapstan(t)
	dir := t.TempDir()
	buildProbe(t, filepath.Join(dir, "probe"), "amd64")
	file := "cmdline: /probe boots /boots\nfiles: {/probe: probe}\nenv: {FROM_IMAGE: kept}\n"
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
	for _, format := range []string{"raw", "qcow2"} {
		path := filepath.Join(dir, "disk."+format)
		c.must(t, "export", "boots", "--format", format, "--disk", "20G", "-o", path)
		boot := 0
		for _, device := range []string{
			"-device virtio-blk-pci,drive=d",
			"-device ide-hd,drive=d,bus=ide.0",
		} {
			t.Run(format+device, func(t *testing.T) {
				boot++
				console := bootUEFI(t, format, path, device)
				for _, want := range []string{fmt.Sprintf("boot %d of kept, 19 GiB free", boot), `capstan-exit: {"status":0}`} {
					if !strings.Contains(console, want) {
						t.Errorf("the console does not say %q:\n%s", want, console)
					}
				}
			})
		}
	}
	c.checkNothingLeft(t)
}
