package source

import (
	"archive/tar"
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // a socket's name must be short
	write(t, dir, map[string]string{"ROOTFS/bin/su": "s", "ROOTFS/tmp/": "", "ROOTFS/a": "linked"})
	listener, err := net.Listen("unix", "ROOTFS/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, err := range []error{
		unix.Mkfifo("ROOTFS/fifo", 0o600),
		os.Chmod("ROOTFS/bin/su", 0o755|os.ModeSetuid|os.ModeSetgid),
		os.Chmod("ROOTFS/tmp", 0o777|os.ModeSticky),
		os.Chmod("ROOTFS/fifo", 0o600),
		os.Link("ROOTFS/a", "ROOTFS/b"),
		os.Link("ROOTFS/a", "c"),
		os.Link("ROOTFS/a", "d"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var notes []string
	l := plan(t, dir, "base: x\nfiles: {/c: c, /e/: d}\n", Options{Notes: func(s string) { notes = append(notes, s) }})
	got, _ := entries(t, tarOf(t, l))
	want := []string{
		"0 0644 a = linked", "1 0644 b -> a", "5 0755 bin/", "0 6755 bin/su = s",
		"0 0644 c = linked", "5 0755 e/", "0 0644 e/d = linked", "6 0600 fifo", "5 1777 tmp/",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\ngot  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
	if want := []string{"ROOTFS/socket is left out: it is a socket"}; !reflect.DeepEqual(notes, want) {
		t.Errorf("notes %q", notes)
	}
	_, err = FromCapstanfile(context.Background(), dir, parse(t, "base: x\nfiles: {/s: ROOTFS/socket}\n"), Options{})
	if err == nil || err.Error() != "Capstanfile:2: files /s: ROOTFS/socket is a socket" {
		t.Errorf("a socket by name: %v", err)
	}
}

func TestDevices(t *testing.T) {
	l := plan(t, "/dev", "base: x\nfiles: {/n: 'null', /z: zero}\n", Options{})
	got, _ := entries(t, tarOf(t, l))
	if want := []string{"3 0666 n 1:3", "3 0666 z 1:5"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file capabilities")
	}
	dir := t.TempDir()
	write(t, dir, map[string]string{"ROOTFS/ping": "p", "ROOTFS/plain": "p"})
	// struct vfs_cap_data, revision 2: cap_net_raw permitted and effective.
	caps := []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(filepath.Join(dir, "ROOTFS/ping"), "security.capability", caps, 0); err != nil {
		t.Fatal(err)
	}
	_, headers := entries(t, tarOf(t, plan(t, dir, "base: x\n", Options{})))
	if got := headers["ping"].PAXRecords["SCHILY.xattr.security.capability"]; got != string(caps) {
		t.Errorf("got %q", got)
	}
	if got := headers["plain"].PAXRecords; len(got) != 0 {
		t.Errorf("plain has %q", got)
	}
}

// TestUnreadable reads as a user who may not: root, who may everything, gives
// the right up for the thread.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"secret": "s", "d/x": ""})
	for _, name := range []string{"secret", "d"} {
		if err := os.Chmod(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := os.Chmod(filepath.Join(dir, "d"), 0o755); err != nil {
			t.Error(err)
		}
	})
	if os.Geteuid() == 0 {
		for p := dir; p != "/"; p = filepath.Dir(p) {
			info, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode()&0o055 != 0o055 {
				if err := os.Chmod(p, info.Mode()|0o055); err != nil {
					t.Fatal(err)
				}
			}
		}
		runtime.LockOSThread() // never unlocked: the thread ends with the test
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer unix.Setfsuid(0)
	}
	var out bytes.Buffer
	l := plan(t, dir, "base: x\nfiles: {/a: secret}\n", Options{})
	if err := l.WriteTar(context.Background(), &out); err == nil || err.Error() != "reading secret: permission denied" {
		t.Errorf("a file: %v", err)
	}
	noEnd(t, out.Bytes())
	_, err := FromCapstanfile(context.Background(), dir, parse(t, "base: x\nfiles: {/a: d}\n"), Options{})
	if err == nil || err.Error() != "Capstanfile:2: files /a: reading the directory d: permission denied" {
		t.Errorf("a directory: %v", err)
	}
}

func TestNamesThatAreNoText(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"ROOTFS/\xff\xfe": "a", "ROOTFS/new\nline": "b", "ROOTFS/" + strings.Repeat("n", 255): "c"})
	_, headers := entries(t, tarOf(t, plan(t, dir, "base: x\n", Options{})))
	for _, name := range []string{"\xff\xfe", "new\nline", strings.Repeat("n", 255)} {
		if h := headers[name]; h == nil || h.Typeflag != tar.TypeReg {
			t.Errorf("%q is missing", name)
		}
	}
}
