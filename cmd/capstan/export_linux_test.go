package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"capstan/internal/image/disk/disktest"
)

// TestExportMistakes: a mistake is a sentence with the way out, and leaves no
// file.
func TestExportMistakes(t *testing.T) {
	w := newWorld(t)
	w.write("app", "#!/bin/sh\n")
	w.write("Capstanfile", "cmdline: /app\nfiles: {/app: app}\n")
	w.must("build", "app")
	w.write("Capstanfile", "cmdline: /app\nfiles: {/app: app}\nmemory: 30M\n")
	w.must("build", "small")
	w.write("there", "kept")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"exists":    {[]string{"-o", "there", "app"}, "there exists\n  try: another name, or --force"},
		"a folder":  {[]string{"--force", "-o", ".", "app"}, "no regular file"},
		"xen":       {[]string{"--format", "xen", "-o", "there", "app"}, "there exists\n  try: another name, or --force"},
		"no xen":    {[]string{"--format", "xen", "--force", "-o", "there", "app"}, "no folder of capstan export --format xen"},
		"xen home":  {[]string{"--format", "xen", "--force", "-o", ".", "app"}, "no folder of capstan export --format xen"},
		"no folder": {[]string{"-o", "no/x", "app"}, "no such file or directory"},
		"no size":   {[]string{"--disk", "20", "-o", "x", "app"}, "--disk 20: expected a size with its unit"},
		"no format": {[]string{"--format", "qed", "-o", "x", "app"}, "--format qed: expected raw, qcow2, vmdk"},
		"vhdx":      {[]string{"-o", "x.VHDX", "app"}, "a disk in format vhdx cannot be written\n  try: --format vhd, of which Hyper-V's Convert-VHD makes one; or --format raw, and then qemu-img convert"},
		"too large": {[]string{"--disk", "2041G", "-o", "x.vhd", "app"}, "--disk 2041G: a disk in format vhd has 2040 GiB at most\n  try: "},
		"to a pipe": {[]string{"--format", "qcow2", "-o", "-", "app"}, "a disk in format qcow2 cannot go to standard output\n  try: -o FILE, or --format raw, vmdk-stream, vhd-fixed, gce"},
		"small":     {[]string{"--format", "xen", "-o", "x", "small"}, "the image says 30M of memory, and a guest needs 40M at least\n  try: memory: 40M or more, in its Capstanfile"},
		"no file":   {[]string{"app"}, "needs a file to write to"},
		"no image":  {[]string{"-o", "x", "nowhere"}, "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.capstan(append([]string{"export"}, tt.args...)...)
			if r.status == 0 || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("status %d, not %q:\n%s", r.status, tt.want, r.stderr)
			}
		})
	}
	w.checkFiles("there")
	if text, err := os.ReadFile(filepath.Join(w.dir, "there")); err != nil || string(text) != "kept" {
		t.Errorf("the file that was there: %q, %v", text, err)
	}
}

// checkFiles fails the test unless of what export may write these are there.
func (w *world) checkFiles(want ...string) {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		switch e.Name() {
		case "app", "Capstanfile", "root":
		default:
			got = append(got, e.Name())
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("files %q, not %q", got, want)
	}
}

// TestReplaceFile: what fails in the middle leaves neither its own file nor
// harms the one that is there.
func TestReplaceFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := replaceFile(path, func(f *os.File) error {
		_, err := f.WriteString("partial")
		return errors.Join(err, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC})
	})
	if err = full(path, err); err.Error() != "writing "+path+": no space left on device" {
		t.Errorf("a full disk: %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if text, err := os.ReadFile(path); err != nil || string(text) != "kept" || len(entries) != 1 {
		t.Errorf("%q, %v, %v", text, err, entries)
	}
}

// TestReplaceFolder: what fails in the middle leaves neither its own folder nor
// harms the one that is there; what does not takes its place.
func TestReplaceFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guest")
	for _, tt := range []struct {
		file    string
		fails   error
		content string
	}{
		{"one", nil, "one"},
		{"two", syscall.ENOSPC, "one"},
		{"two", nil, "two"},
	} {
		err := replaceFolder(path+"/", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, tt.file), nil, 0o600), tt.fails)
		})
		if !errors.Is(err, tt.fails) {
			t.Errorf("%+v: %v", tt, err)
		}
		inside, _ := os.ReadDir(path)
		beside, _ := os.ReadDir(filepath.Dir(path))
		if len(inside) != 1 || inside[0].Name() != tt.content || len(beside) != 1 {
			t.Errorf("%+v: %v, beside it %v", tt, inside, beside)
		}
	}
}

// TestChooseFormat: a file's ending says the format, where nothing else does.
func TestChooseFormat(t *testing.T) {
	for _, tt := range []struct{ format, output, want string }{
		{"", "redis", "raw"}, {"", "redis.raw", "raw"}, {"", "a/b.IMG", "raw"}, {"", "redis.qcow2", "qcow2"}, {"", "redis.vmdk", "vmdk"},
		{"", "redis.vdi", "vdi"}, {"", "redis.vhd", "vhd"}, {"", "redis.ova", "ova"}, {"", "redis.tar.gz", "gce"}, {"", "redis.ova/disk", "raw"},
		{"", "-", "raw"}, {"vhd-fixed", "redis.vhd", "vhd-fixed"}, {"vmdk-stream", "redis.vmdk", "vmdk-stream"}, {"raw", "redis.vhdx", "raw"},
	} {
		f := exportFlags{format: tt.format, output: tt.output}
		if err := f.chooseFormat(); err != nil || f.format != tt.want {
			t.Errorf("%+v: %q, %v", tt, f.format, err)
		}
	}
}

// TestInfoOfXen: a folder of export --format xen is told by its disk, and no
// other folder is.
func TestInfoOfXen(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"app.cfg", "kernel", "ramdisk"} {
		w.write("xen/"+name, "")
	}
	w.write("xen/disk.raw", string(disktest.BIOS("/app.so", false)))
	if out := w.must("info", "xen"); !strings.HasPrefix(out, "xen: for Xen's xl, RAW, disk of ") {
		t.Errorf("a folder for Xen: %s", out)
	}
	w.write("xen/more", "")
	if out := w.must("info", "xen"); out != "xen: not a runnable image\n" {
		t.Errorf("another folder: %s", out)
	}
}

// TestSaveFull: a disk that is full is a sentence, without the names of files
// that are gone.
func TestSaveFull(t *testing.T) {
	w := newWorld(t)
	w.write("tree/motd", "hello")
	w.must("build", "--from", "tree", "app")
	r := w.capstan("save", "-o", "/dev/full", "app")
	if want := "capstan: writing /dev/full: no space left on device\n  try: " + roomHint + "\n"; r.status != exitError || r.stderr != want {
		t.Errorf("%+v; want %q", r, want)
	}
}
