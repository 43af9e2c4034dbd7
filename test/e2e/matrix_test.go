//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What machines have that disks are exported to: QEMU's name of a format, and
// devices.
var (
	matrixFormats = []struct{ name, qemu string }{
		{"raw", "raw"}, {"qcow2", "qcow2"}, {"vmdk", "vmdk"}, {"vhd", "vpc"},
	}
	matrixDisks = []struct{ name, devices string }{
		{"SATA", "-device ide-hd,drive=d,bus=ide.0"},
		{"NVMe", "-device nvme,drive=d,serial=1"},
		{"virtio-blk", "-device virtio-blk-pci,drive=d"},
		{"virtio-scsi", "-device virtio-scsi-pci,id=s -device scsi-hd,drive=d,bus=s.0"},
		{"pvscsi", "-device pvscsi,id=s -device scsi-hd,drive=d,bus=s.0"},
	}
	matrixNICs = []string{"e1000e", "vmxnet3", "virtio-net-pci"}
)

// TestExportMatrix: Debian's Redis, exported once in each format, answers a
// client on machines where every pair of format, disk and network card comes
// together, with all that it was told on the machines before.
func TestExportMatrix(t *testing.T) {
	need(t, "redis-cli", "redis-tools")
	c := newCapstan(t)
	c.must(t, "build", "redis", appContext(t, "redis"))
	for f, format := range matrixFormats {
		t.Run(format.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "disk")
			c.must(t, "export", "redis", "--format", format.name, "--disk", "20G", "-o", path)
			c.checkInfo(t, path, format.name)
			for d, disk := range matrixDisks {
				// Each format meets five disks, and so all cards; each disk
				// meets all formats, and so all cards as well.
				hw := hardware{disk: disk.devices, nic: matrixNICs[(f+d)%len(matrixNICs)], forward: 6379}
				vary(&hw, f, d)
				if disk.name == "pvscsi" {
					hw.boot = c.guestFile(t)
				}
				if !t.Run(disk.name+" "+hw.nic, func(t *testing.T) { bootUEFI(t, hw, format.qemu, path).talkToRedis(d) }) {
					break // the next ones would miss what this one did not say
				}
			}
		})
	}
}

// checkInfo checks what info says of an exported Redis.
func (c *capstan) checkInfo(t *testing.T, path, format string) {
	t.Helper()
	var views []struct {
		Kind, Format, Firmware, Table string
		Size                          int64
		Damaged                       bool
		Partitions                    []struct{ Name string }
		Capstan                       struct {
			Image struct {
				Name, Digest string
				Memory       int64
				Ports        []string
			}
			Command          []string
			User, Kernel     string
			Root, Data, Free int64
			Odd              []string
		}
	}
	if err := json.Unmarshal([]byte(c.must(t, "info", "--format", "json", path)), &views); err != nil || len(views) != 1 {
		t.Fatalf("info: %+v, %v", views, err)
	}
	v := views[0]
	if v.Kind != "disk" || v.Format != format || v.Firmware != "uefi" || v.Table != "gpt" || v.Damaged || v.Size != 20<<30 || len(v.Partitions) != 4 {
		t.Errorf("info: %+v", v)
	}
	if i := v.Capstan.Image; i.Name != "redis:latest" || !strings.HasPrefix(i.Digest, "sha256:") || i.Memory != 64<<20 || !slices.Equal(i.Ports, []string{"6379/tcp"}) {
		t.Errorf("info: %+v", i)
	}
	if d := v.Capstan; !slices.Equal(d.Command, []string{"/usr/bin/redis-server", "/etc/redis.conf"}) || d.User != "redis" || !strings.HasPrefix(d.Kernel, "6.") ||
		d.Root < 10<<20 || d.Data < 19<<30 || d.Free > d.Data || d.Free < 19<<30 || len(d.Odd) > 0 {
		t.Errorf("info: %+v", d)
	}
}

// guestFile is what the disks' EFI system partitions hold. Debian's OVMF is
// built without a driver for VMware's SCSI controller; VMware's firmware has one.
func (c *capstan) guestFile(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.root, "guest", "*", "bzImage"))
	if err != nil || len(found) != 1 {
		t.Fatalf("guests: %q, %v", found, err)
	}
	return found[0]
}

// vary gives some of the machines what is not a matter of the disk.
func vary(hw *hardware, format, disk int) {
	switch {
	case format == 0 && disk == 2:
		hw.machine = "pc" // of 1996: no PCI Express, no MSI
	case format == 1:
		hw.cpus = 2 + disk
	case disk == 3:
		hw.memory = "256M"
	case disk == 4:
		hw.cpu = "qemu64" // which has no source of random numbers
	}
}

// talkToRedis is a client that finds what the clients of all boots before have
// set, and sets something. The machine is switched off by its power button, or
// its power is cut once Redis has what it was told on the disk. (QEMU's NVMe
// disk takes no notice of FUA, so that one must not be cut.)
func (m *uefi) talkToRedis(boot int) {
	host, port, err := net.SplitHostPort(m.address())
	if err != nil {
		m.t.Fatal(err)
	}
	cli := []string{"redis-cli", "-h", host, "-p", port}
	m.says("Ready to accept connections")
	script, want := "CONFIG SET appendfsync always\n", "OK\n"
	for n := range boot {
		script, want = script+fmt.Sprintf("GET boot:%d\n", n), want+fmt.Sprintf("value %d\n", n)
	}
	script, want = script+fmt.Sprintf("SET boot:%d \"value %d\"\nINCR boots\n", boot, boot), want+fmt.Sprintf("OK\n%d\n", boot+1)
	if out, err := tool(conversation, script, cli...); err != nil || out != want {
		m.t.Fatalf("asked\n%s\nRedis answered\n%s%v\nand not\n%s", script, out, err, want)
	}
	if boot > 0 && boot%2 == 0 {
		m.cut()
		return
	}
	m.monitor("system_powerdown", nil)
	if said := m.end(0); strings.Contains(said, "capstan: ") {
		m.t.Errorf("the guest has something to say")
	}
}
