package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"capstan/internal/image/disk/disktest"
	"capstan/internal/image/disk/qcow2"
)

// TestDiskMistakes imports disks that nobody should, and runs one in ways that
// mean nothing for it.
func TestDiskMistakes(t *testing.T) {
	disk := func(name, content string) mistake {
		return mistake{name: name, files: map[string]string{"disk": content}, args: []string{"import", "d", "disk"}}
	}
	raw := string(disktest.BIOS("/old.so", false))
	header := func(change func(b []byte)) string {
		var b bytes.Buffer
		if err := (qcow2.Overlay{Size: 1 << 20, Head: []byte(raw[:qcow2.HeadSize])}).Write(&b); err != nil {
			t.Fatal(err)
		}
		clear(b.Bytes()[8:20]) // it stands on nothing
		change(b.Bytes())
		return b.String()
	}
	be := binary.BigEndian
	vmdk := make([]byte, 64<<10)
	copy(vmdk, "KDMV\x01\x00\x00\x00")
	copy(vmdk[0x200:], "parentFileNameHint=\"/etc/shadow\"\n")
	descriptor := "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"/etc/passwd\" 0\n"
	run := func(args ...string) mistake {
		return mistake{
			name: "run " + strings.Join(args, " "), leaves: true,
			setup: func(w *world) { w.write("disk", raw); w.must("import", "d", "disk") },
			args:  append([]string{"run", "--rm"}, args...),
		}
	}
	commitAll(t, "disks.golden", []mistake{
		disk("nothing", ""),
		disk("a text", "FROM debian\n"),
		disk("a qcow2 with a backing file", header(func(b []byte) { be.PutUint64(b[8:], 1024); be.PutUint32(b[16:], 11); copy(b[1024:], "/etc/passwd") })),
		disk("a qcow2 with a data file", header(func(b []byte) { be.PutUint64(b[72:], 4) })),
		disk("an encrypted qcow2", header(func(b []byte) { be.PutUint32(b[32:], 2) })),
		disk("a corrupt qcow2", header(func(b []byte) { be.PutUint64(b[72:], 2) })),
		disk("a qcow2 of the future", header(func(b []byte) { be.PutUint32(b[4:], 4) })),
		disk("a truncated qcow2", header(func([]byte) {})[:5<<16]),
		disk("half a header", "QFI\xfb\x00\x00\x00\x03"),
		disk("a qcow2 of all sizes", header(func(b []byte) { be.PutUint64(b[24:], 1<<62) })),
		disk("a VMDK of a host's file", descriptor),
		disk("a VMDK with a parent", string(vmdk)),
		disk("a VHDX", "vhdxfile"+strings.Repeat("\x00", 1<<16)),
		disk("broken gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03broken"),
		disk("gzip in gzip", packed(t, packed(t, raw))),
		disk("an OVA", archived(t, "m.ovf", "m-disk1.vmdk", "m.mf")),
		disk("an OVA of two disks", archived(t, "m.ovf", "m-disk1.vmdk", "m-disk2.vmdk")),
		disk("an archive for Compute Engine", packed(t, archived(t, "disk.raw"))),
		{name: "no file", args: []string{"import", "d", "nowhere"}},
		{name: "a directory", args: []string{"import", "d", "."}},
		{name: "no such firmware", files: map[string]string{"disk": raw}, args: []string{"import", "--firmware", "openboot", "d", "disk"}},
		{name: "no such bus", files: map[string]string{"disk": raw}, args: []string{"import", "--bus", "mfm", "d", "disk"}},
		{name: "no time", files: map[string]string{"disk": raw}, args: []string{"import", "-c", "yesterday", "d", "disk"}},
		{name: "nothing to import", args: []string{"import", "--all"}},
		{name: "a flag with all", args: []string{"import", "--all", "-d", "x"}},
		{name: "info of nothing", args: []string{"info", "nowhere"}},
		run("d", "sh", "-c", "x"),
		run("-e", "/java.so", "d"),
		run("-u", "root", "d"),
		run("-v", ".:/mnt", "d"),
		run("--entrypoint", "/bin/sh", "d"),
		run("--hostname", "h", "d"),
		run("--bus", "mfm", "d"),
		run("--firmware", "openboot", "d"),
		run("--firmware", "uefi", "--bus", "ide", "d"),
		run("--execute", "/hello.so", "app"),
		run("--bus", "ide", "app"),
		{name: "a docker-archive", setup: func(w *world) { w.write("disk", raw); w.must("import", "d", "disk") }, leaves: true,
			args: []string{"save", "-o", "out.tar", "d"}},
		{name: "rmi of what only old Capstan had", files: map[string]string{"root/repository/team/x/x.qemu": raw}, args: []string{"rmi", "team/x"}},
		{name: "plain HTTP", args: []string{"pull", "-u", "http://old.example.org/", "a/b"}},
		{name: "no URL", args: []string{"pull", "-u", "bucket", "a/b"}},
		{name: "a password in a URL", args: []string{"search", "-u", "https://user:password@example.org/", "b"}},
		{name: "a tag in an old repository", args: []string{"pull", "-u", "https://127.0.0.1:1/", "a/b:2"}},
	})
}

// archived is a tar of small files.
func archived(t *testing.T, names ...string) string {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: 3}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "abc"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func packed(t *testing.T, s string) string {
	t.Helper()
	var b strings.Builder
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
