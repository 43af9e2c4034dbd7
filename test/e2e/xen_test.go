//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestXen: Debian's Redis, exported for Xen's xl, runs as a PVH guest and then
// as an HVM guest with paravirtual devices, of a real Xen with Debian's own dom0
// kernel and toolstack, all on a machine of QEMU's whose CPU has AMD's
// virtualization. It answers a client, xl shutdown ends it in order, and its
// data are there the next time.
func TestXen(t *testing.T) {
	root := xenRoot(t)
	c := newCapstan(t)
	c.must(t, "build", "redis", appContext(t, "redis"))
	exported := filepath.Join(t.TempDir(), "exported")
	c.must(t, "export", "redis", "--format", "xen", "--disk", "300M", "-o", exported)
	for lives, kind := range []string{"pvh", "hvm"} {
		t.Run(kind, func(t *testing.T) {
			said := bootXen(t, root, kind, exported)
			_, console, _ := strings.Cut(said, "\nconsole:\n")
			console, _, _ = strings.Cut(console, "end of console\n")
			if !strings.Contains(said, fmt.Sprintf("redis: :%d\n", lives+1)) || !strings.Contains(console, "Ready to accept connections") ||
				!strings.HasSuffix(console, "Redis is now ready to exit, bye bye...\n\ncapstan-exit: {\"status\":0}\n") {
				t.Errorf("the machine says\n%s", said)
			}
		})
	}
}

// xenRoot makes a root with Xen and what its dom0 needs.
func xenRoot(t *testing.T) string {
	t.Helper()
	make := exec.Command("../../scripts/debroot.sh", "make", "xen", "bookworm",
		"xen-hypervisor-4.17-amd64", "xen-utils-4.17", "qemu-system-xen", "seabios", "linux-image-amd64", "busybox-static", "iproute2", "mount", "util-linux", "libc-bin", "cpio")
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("making Xen's root: %v\n%s", err, out)
	}
	cache := os.Getenv("CAPSTAN_CACHE")
	if cache == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, "capstan")
	}
	return filepath.Join(cache, "debroot/xen/root")
}

// bootXen runs testdata/xen/init as dom0, with a folder and the type that its
// guest is to have, and returns what the machine said.
func bootXen(t *testing.T, root, kind, exported string) string {
	t.Helper()
	dir := t.TempDir()
	hypervisor := filepath.Join(dir, "xen")
	gunzip(t, filepath.Join(root, "boot/xen-4.17-amd64.gz"), hypervisor)
	archive := filepath.Join(dir, "dom0.cpio")
	if out, err := exec.Command("../../scripts/debroot.sh", "run", "xen", "testdata/xen/pack", archive).CombinedOutput(); err != nil {
		t.Fatalf("packing dom0's initramfs: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), serveBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, need(t, "qemu-system-x86_64", "qemu-system-x86"),
		// QEMU 7.2 has neither RDTSCP's nor Xen's use of SMAP right.
		"-accel", "tcg", "-cpu", "max,+svm,+npt,-smap,-smep,-rdtscp",
		"-machine", "q35", "-m", "2G", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", hypervisor, "-append", "console=com1 dom0_mem=900M,max:900M",
		"-initrd", glob(t, root, "boot/vmlinuz-*")+" console=hvc0 panic=-1 quiet guest="+kind+","+archive,
		"-fsdev", "local,id=exported,security_model=none,path="+exported, "-device", "virtio-9p-pci,fsdev=exported,mount_tag=exported")
	out, err := cmd.CombinedOutput()
	if err := errors.Join(err, ctx.Err()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.ReplaceAll(string(out), "\r", "")
}

func gunzip(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	b, err = io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// glob is the one file of that name.
func glob(t *testing.T, root, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, name))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", name, found, err)
	}
	return found[0]
}
