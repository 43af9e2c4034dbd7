package source

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestFromProgram(t *testing.T) {
	l, err := FromProgram("/usr/bin/getent", Options{})
	if err != nil {
		t.Fatalf("%v (apt package libc-bin)", err)
	}
	if l.Arch != runtime.GOARCH || !slices.Equal(l.Argv, []string{"/usr/bin/getent"}) || l.ArchOf(l.Argv[0]) != l.Arch {
		t.Errorf("arch %s, argv %q, arch of the program %s", l.Arch, l.Argv, l.ArchOf(l.Argv[0]))
	}
	lines, headers := entries(t, tarOf(t, l))
	for _, want := range []string{"5 1777 tmp/", "5 0700 root/", "5 0755 etc/", "0 0644 etc/passwd = " + passwd, "0 0644 etc/group = " + group} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, want := range []string{"usr/bin/getent", "etc/nsswitch.conf", "etc/ld.so.cache"} {
		if headers[want] == nil {
			t.Errorf("%s is missing", want)
		}
	}
}

// TestFromProgramRuns unpacks what a program of one's own gives with the
// machine's tar, and runs it in there.
func TestFromProgramRuns(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile("/usr/bin/getent")
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "mine")
	if err := os.WriteFile(own, data, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := From(context.Background(), own, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(l.Argv, []string{"/usr/local/bin/mine"}) {
		t.Errorf("argv %q", l.Argv)
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	unpack := exec.Command("tar", "-x", "-C", root, "--no-same-owner")
	unpack.Stdin = bytes.NewReader(tarOf(t, l))
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	cmd := &exec.Cmd{Path: l.Argv[0], Args: []string{l.Argv[0], "passwd", "nobody"}, Env: []string{}, Dir: "/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "nobody:x:65534:65534:") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTarToolAgrees compares with what the machine's tar reads.
func TestTarToolAgrees(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"ROOTFS/a": "1", "ROOTFS/" + strings.Repeat("long/", 60) + "x": "2", "ROOTFS/l": "->" + strings.Repeat("t", 200),
	})
	archive := tarOf(t, plan(t, dir, "base: x\n", Options{}))
	cmd := exec.Command("tar", "-t")
	cmd.Stdin = bytes.NewReader(archive)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, h.Name)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("tar reads %v, want %v", got, want)
	}
}
