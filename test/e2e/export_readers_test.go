//go:build e2e

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/hypervisor/vbox/vboxtest"
)

// TestExportReaders: other programs than QEMU read exported disks as the raw
// disk: VirtualBox, which also imports the machine, and VMware's open-vmdk.
func TestExportReaders(t *testing.T) {
	c, dir := newBig(t, 3), t.TempDir()
	vbox := vboxtest.New(t, "../..")
	manage := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), vbox.Real, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("VBoxManage %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	export := func(name, format string) string {
		path := filepath.Join(dir, name)
		c.must(t, "export", "big", "--disk", "200M", "--format", format, "-o", path)
		return path
	}
	raw := export("disk.raw", "raw")
	same := func(medium string) {
		t.Helper()
		clone := filepath.Join(dir, "clone")
		manage("clonemedium", medium, clone, "--format", "RAW")
		if out, err := exec.Command("cmp", clone, raw).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", medium, err, out)
		}
		// One disk, in whatever format, has one ID.
		manage("closemedium", "disk", clone, "--delete")
		manage("closemedium", "disk", medium)
	}
	for _, format := range []string{"vdi", "vmdk", "vhd"} {
		same(export("disk."+format, format))
	}
	same(export("fixed.vhd", "vhd-fixed"))
	stream := export("stream.vmdk", "vmdk-stream")
	same(stream)

	manage("import", export("big.ova", "ova"), "--vsys", "0", "--basefolder", filepath.Join(dir, "machines"))
	for _, want := range []string{`firmware="EFI64"`, `storagecontrollertype0="IntelAhci"`, `nictype1="82540EM"`} {
		if info := manage("showvminfo", "big", "--machinereadable"); !strings.Contains(info, want) {
			t.Errorf("the machine that VirtualBox imports has no %s:\n%s", want, info)
		}
	}
	clone := filepath.Join(dir, "imported")
	manage("clonemedium", filepath.Join(dir, "machines/big/big-disk1.vmdk"), clone, "--format", "RAW")
	if out, err := exec.Command("cmp", clone, raw).CombinedOutput(); err != nil {
		t.Errorf("the disk that VirtualBox imports: %v\n%s", err, out)
	}
	manage("closemedium", "disk", clone, "--delete")
	manage("unregistervm", "big", "--delete")

	const script = "../../scripts/debroot.sh"
	converted := filepath.Join(dir, "converted.vmdk")
	for _, args := range [][]string{{"make", "open-vmdk", "sid", "open-vmdk"}, {"run", "open-vmdk", "vmdk-convert", stream, converted}} {
		if out, err := exec.CommandContext(t.Context(), script, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	_, err := os.Stat(converted)
	out, cerr := exec.Command("qemu-img", "compare", "-f", "vmdk", "-F", "raw", converted, raw).CombinedOutput()
	if err := errors.Join(err, cerr); err != nil {
		t.Errorf("what open-vmdk makes of the stream: %v\n%s", err, out)
	}
}
