//go:build linux && e2e

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/guest/api"
	"capstan/internal/image/ext4"
)

// part is a partition: its name, its size and what it begins with.
type part struct {
	name    string
	size    int64
	content io.Reader
}

// makeDisk writes a GPT disk.
func makeDisk(t *testing.T, parts ...part) string {
	t.Helper()
	const sector, alignment = 512, 1 << 20
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := int64(alignment)
	args := []string{"--clear", "--set-alignment=1"}
	for i, p := range parts {
		size := (p.size + alignment - 1) / alignment * alignment
		args = append(args, fmt.Sprintf("--new=%d:%d:%d", i+1, at/sector, (at+size)/sector-1), fmt.Sprintf("--change-name=%d:%s", i+1, p.name))
		if _, err := io.Copy(io.NewOffsetWriter(f, at), p.content); err != nil {
			t.Fatal(err)
		}
		at += size
	}
	if err := f.Truncate(at + alignment); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("sgdisk", append(args, path)...).CombinedOutput(); err != nil {
		t.Fatalf("sgdisk: %v\n%s", err, text)
	}
	return path
}

// A disk as clouds have it carries everything: the config, the root and what
// is written, each in a partition that is found by its name, whatever the
// disk's controller is.
func TestDiskWithEverything(t *testing.T) {
	k, err := theKit()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(k.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := root.Stat()
	if err != nil {
		t.Fatal(err)
	}
	upper, err := os.Create(filepath.Join(t.TempDir(), "upper"))
	if err != nil {
		t.Fatal(err)
	}
	defer upper.Close()
	if err := ext4.Format(upper, ext4.Options{Size: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(api.Config{
		Version: api.Version, Args: []string{"app", "count", "/srv/boots"}, Network: noNetwork, Verbose: true,
		Root: api.Root{Lower: []string{"partlabel:capstan-root"}, Upper: "partlabel:capstan-data"},
	})
	if err != nil {
		t.Fatal(err)
	}
	disk := makeDisk(t,
		part{"other", 1 << 20, strings.NewReader(`{"version":9}`)},
		part{api.ConfigPartition, 1 << 20, strings.NewReader(string(doc))},
		part{"capstan-root", info.Size(), root},
		part{"capstan-data", 64 << 20, upper})
	drive := "-drive if=none,id=d,format=raw,file=" + disk
	for i, c := range []struct{ name, machine, disk string }{
		{"virtio MMIO", "", drive + " -device virtio-blk-device,drive=d"},
		{"virtio PCI", "q35", drive + " -device virtio-blk-pci,drive=d"},
		{"NVMe", "q35", drive + " -device nvme,drive=d,serial=1"},
		{"virtio SCSI", "q35", drive + " -device virtio-scsi-pci,id=v -device scsi-hd,drive=d,bus=v.0"},
		{"VMware's SCSI", "q35", drive + " -device pvscsi,id=p -device scsi-hd,drive=d,bus=p.0"},
		{"AHCI", "q35", drive + " -device ide-hd,drive=d,bus=ide.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, exit := boot(t, api.Config{}, setup{machine: c.machine, disk: c.disk}).end()
			if want := fmt.Sprintf("boot %d\n", i+1); out != want || exit != (api.Exit{}) {
				t.Errorf("%q, not %q; %+v", out, want, exit)
			}
		})
	}
}

// A root by its disk's serial number or by the name that the disk's vendor has
// given it, where virtio is not what carries it.
func TestSerialNumbers(t *testing.T) {
	k, err := theKit()
	if err != nil {
		t.Fatal(err)
	}
	doc := fmt.Sprintf(`{"version":%d,"args":["app","hello"],"root":{"lower":["serial:R00T"]},"network":{"none":true}}`, api.Version)
	config := makeDisk(t, part{api.ConfigPartition, 1 << 20, strings.NewReader(doc)})
	drives := "-drive if=none,id=c,format=raw,file=" + config + " -device virtio-blk-pci,drive=c -drive if=none,id=r,format=raw,readonly=on,file=" + k.root
	for name, device := range map[string]string{
		"NVMe": "-device nvme,drive=r,serial=R00T",
		"SCSI": "-device virtio-scsi-pci,id=v -device scsi-hd,drive=r,bus=v.0,serial=R00T",
		"name": "-device virtio-scsi-pci,id=v -device scsi-hd,drive=r,bus=v.0,serial=1,device_id=R00T",
	} {
		t.Run(name, func(t *testing.T) {
			if out, exit := boot(t, api.Config{}, setup{machine: "q35", disk: drives + " " + device}).end(); out != "hello\n" || exit != (api.Exit{}) {
				t.Errorf("%q; %+v", out, exit)
			}
		})
	}
}

// A machine whose disk has no config says so.
func TestNoConfig(t *testing.T) {
	disk := makeDisk(t, part{"other", 1 << 20, strings.NewReader("")})
	_, exit := boot(t, api.Config{}, setup{disk: "-drive if=none,id=d,format=raw,file=" + disk + " -device virtio-blk-device,drive=d"}).end()
	if want := "the machine has no instance config"; exit.Status != statusFailed || exit.Reason != want {
		t.Errorf("%+v", exit)
	}
}

// A machine whose disk has a config that is none says so in one line of its
// console and ends.
func TestBadConfigPartition(t *testing.T) {
	for name, c := range map[string]struct{ doc, want string }{
		"truncated":     {`{"version":1,"args":["app"],"ro`, "the instance config is not valid: unexpected end of JSON input"},
		"other version": {`{"version":2,"args":["app"]}`, "the instance config has version 2, this guest knows version 1"},
		"noise":         {strings.Repeat("\x9d\x00\r\n\x1b[2J", 100_000), "the instance config is not valid: invalid character '\\u009d' looking for beginning of value"},
		"zeros":         {"", "reading the instance config: it is empty"},
		"huge":          {`{"version":1,"args":["` + strings.Repeat("x", 9<<20), "reading the instance config: it is larger than 4 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := makeDisk(t, part{api.ConfigPartition, 10 << 20, strings.NewReader(c.doc)})
			out, exit := boot(t, api.Config{}, setup{noPort: true, disk: "-drive if=none,id=d,format=raw,file=" + disk + " -device virtio-blk-device,drive=d"}).end()
			if out != "\ncapstan: "+c.want || exit.Status != statusFailed || exit.Reason != c.want {
				t.Errorf("%q; %+v", out, exit)
			}
		})
	}
}

// startVirtiofsd shares dir and returns QEMU's arguments for it.
func startVirtiofsd(t *testing.T, dir string) []string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "fs")
	args := []string{virtiofsd, "--socket-path=" + socket, "-o", "source=" + dir, "-o", "sandbox=chroot", "-f"}
	if os.Geteuid() != 0 {
		args = append([]string{"unshare", "--map-root-user"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It says that it waits for QEMU; then its socket is there.
	var said strings.Builder
	for b := make([]byte, 1); !strings.Contains(said.String(), "Waiting for vhost-user socket connection"); {
		if _, err := stderr.Read(b); err != nil {
			t.Fatalf("virtiofsd: %v: %s", cmd.Wait(), said.String())
		}
		said.Write(b)
	}
	go io.Copy(io.Discard, stderr)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it ends with QEMU
		_ = cmd.Wait()
	})
	return []string{
		"-global", "virtio-mmio.force-legacy=false", // vhost-user speaks virtio 1 only
		"-object", "memory-backend-memfd,id=mem,size=128M,share=on", "-machine", "memory-backend=mem",
		"-chardev", "socket,id=fs,path=" + socket, "-device", "vhost-user-fs-device,chardev=fs,tag=s0",
	}
}
