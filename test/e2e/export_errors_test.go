//go:build e2e

package e2e

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"math/rand/v2"

	"capstan/internal/image/disk/xen"
)

// everyFormat is all that export writes; xen is a folder.
var everyFormat = []string{"raw", "qcow2", "vmdk", "vmdk-stream", "vdi", "vhd", "vhd-fixed", "ova", "gce", "xen"}

// newBig is a store with the image big, of which so many MiB do not compress.
func newBig(t *testing.T, megabytes int) *capstan {
	t.Helper()
	c, dir := newCapstan(t), t.TempDir()
	data := make([]byte, megabytes<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	err := errors.Join(os.WriteFile(filepath.Join(dir, "data"), data, 0o644),
		os.WriteFile(filepath.Join(dir, "Capstanfile"), []byte("cmdline: /data\nfiles: {/data: data}\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "big", dir)
	c.must(t, "export", "big", "--format", "gce", "-o", filepath.Join(t.TempDir(), "disk")) // which makes its root
	return c
}

// TestExportFull exports to a file system with too little room.
func TestExportFull(t *testing.T) {
	c := newBig(t, 20)
	capstan := c.command(t.Context())
	for _, format := range everyFormat {
		t.Run(format, func(t *testing.T) {
			dir, to := t.TempDir(), "there"
			if format == "xen" {
				to = "new" // no folder takes the place of a file
			}
			cmd := exec.Command("unshare", "--mount", "--map-root-user", "sh", "-c",
				`mount -t tmpfs -o size=8m tmpfs . && cd "$PWD" && echo kept >there && "$0" export big --force --format `+format+
					` -o `+to+`; status=$?; ls -A >&2; cat there >&2; exit $status`, capstan.Path)
			cmd.Env, cmd.Dir = capstan.Env, dir
			r := finish(t, cmd)
			if strings.Contains(r.stderr, "unshare") || strings.Contains(r.stderr, "mount: ") {
				t.Logf("no namespaces here: %s", r.stderr)
				cmd = exec.Command("sh", "-c", `echo kept >there; (ulimit -f 8000; exec "$0" export big --force --format `+format+
					` -o `+to+`); status=$?; ls -A >&2; cat there >&2; exit $status`, capstan.Path)
				cmd.Env, cmd.Dir = capstan.Env, dir
				r = finish(t, cmd)
			}
			if r.status != 1 || !strings.Contains(r.stderr, "capstan: writing "+to+": ") || !strings.Contains(r.stderr, "\n  try: make room there, or name a file in another folder\nthere\nkept\n") {
				t.Errorf("status %d: %s", r.status, r.stderr)
			}
		})
	}
}

// TestExportFolder exports to a folder that is not to be written to.
func TestExportFolder(t *testing.T) {
	c := newBig(t, 1)
	dir, err := os.MkdirTemp("", "export")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	cmd := c.command(t.Context(), "export", "big", "-o", filepath.Join(dir, "disk.vmdk"))
	if os.Geteuid() == 0 {
		// Root may write everywhere, but where nobody may: on what is
		// mounted so.
		inside := exec.Command("unshare", "--mount", "sh", "-c",
			`mount -t tmpfs -o ro tmpfs "$1" && shift && exec "$0" "$@"`, cmd.Path, dir, "export", "big", "-o", filepath.Join(dir, "disk.vmdk"))
		inside.Env = cmd.Env
		cmd = inside
	}
	r := finish(t, cmd)
	path := filepath.Join(dir, "disk.vmdk")
	if r.status != 1 || !strings.Contains(r.stderr, "capstan: writing "+path+": ") || !strings.HasSuffix(r.stderr, "\n  try: name a file in a folder that you can write to\n") {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestExportInterrupted ends exports while they write.
func TestExportInterrupted(t *testing.T) {
	c := newBig(t, 100)
	for _, format := range everyFormat {
		whole := filepath.Join(t.TempDir(), "disk")
		c.must(t, "export", "big", "--disk", "300M", "--format", format, "-o", whole)
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(format+" "+signal.String(), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "disk")
				kept := keep(t, format, path)
				said := interruptExport(t, c, signal, format, path, whole, "export", "big", "--force", "--disk", "300M", "--format", format, "-o", path)
				text, err := os.ReadFile(kept)
				if err != nil || string(text) != "kept" {
					t.Errorf("what was there: %d bytes, %v", len(text), err)
				}
				left, err := os.ReadDir(dir)
				if err != nil || len(left) != 1 && signal != syscall.SIGKILL {
					t.Errorf("left: %v, %v", left, err)
				}
				if signal != syscall.SIGKILL && !strings.HasSuffix(said, "capstan: interrupted\n") {
					t.Errorf("it says %q", said)
				}
			})
		}
	}
	c.checkNothingLeft(t)
}

// keep puts something at a path that an export in the format may replace, and
// returns where it says "kept".
func keep(t *testing.T, format, path string) (kept string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	kept = path
	if format == "xen" {
		if err := errors.Join(os.Mkdir(path, 0o700), xen.Guest{Name: "old"}.Write(path, nil, nil)); err != nil {
			t.Fatal(err)
		}
		kept = filepath.Join(path, xen.Disk)
	}
	if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	return kept
}

// interruptExport starts an export, sends it a signal in the midst of its
// writing, and returns what it said. One that was through before the signal
// came, so that the whole disk is there, is started again.
func interruptExport(t *testing.T, c *capstan, signal syscall.Signal, format, path, whole string, args ...string) string {
	t.Helper()
	for range 50 {
		cmd := c.command(t.Context(), args...)
		stderr, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(stderr)
		first, err := r.ReadString('\n') // "writing: ..."
		cmd.Process.Signal(signal)
		rest, rerr := io.ReadAll(r)
		if err != nil || rerr != nil {
			t.Fatalf("%q, %v, %v", first, err, rerr)
		}
		err = cmd.Wait()
		if exec.Command("diff", "-rq", path, whole).Run() != nil {
			if ended := cmd.ProcessState.Sys().(syscall.WaitStatus); signal == syscall.SIGKILL && !ended.Signaled() || signal != syscall.SIGKILL && ended.ExitStatus() != 130 {
				t.Errorf("it ended with %v: %s", err, rest)
			}
			return first + string(rest)
		}
		keep(t, format, path)
	}
	t.Fatal("every export was through before the signal came")
	return ""
}
