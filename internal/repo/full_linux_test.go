package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
)

// TestFullDisk fills a file system of 1 MiB, mounted in a namespace of the
// test's own so that nothing is left of it.
func TestFullDisk(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDiskInside$", "-test.v")
	cmd.Env = append(os.Environ(), envRoot+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		// No namespaces here: a limit on the size of files does the same.
		cmd = exec.Command("sh", "-c", `ulimit -f 600 && exec "$0" "$@"`, os.Args[0], "-test.run=^TestFullDiskInside$", "-test.v")
		cmd.Env = append(os.Environ(), envRoot+"="+t.TempDir(), envSteps+"=limit")
		out, err = cmd.CombinedOutput()
	}
	if err != nil || !strings.Contains(string(out), "PASS: TestFullDiskInside") {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestFullDiskInside does nothing unless TestFullDisk started it.
func TestFullDiskInside(t *testing.T) {
	dir := os.Getenv(envRoot)
	if dir == "" {
		return
	}
	if os.Getenv(envSteps) == "" {
		if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=100"); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(filepath.Join(dir, "capstan"))
	if err != nil {
		t.Fatal(err)
	}
	kept := put(t, s, "kept", testImage(t, 1))
	big, err := random.Image(2<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), mustName(t, "big"), big)
	isFullError(t, "Put", err, dir)

	err = writeLayer(t.Context(), s)
	isFullError(t, "LayerWriter", err, dir)

	dst := filepath.Join(dir, "root")
	err = s.Root(t.Context(), kept.Digest, dst, func(_ context.Context, f *os.File) error {
		_, err := f.Write(make([]byte, 2<<20))
		return err
	})
	isFullError(t, "Root", err, dir)
	if _, err := os.Stat(dst); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a root is left: %v", err)
	}
	if err := readAll(t, s, "kept"); err != nil {
		t.Error(err)
	}
	if got := names(t, s); got != "kept:latest" {
		t.Errorf("List: %s", got)
	}
	if rep, err := s.Prune(t.Context(), PruneOptions{}); err != nil || rep.Blobs+rep.Temp > 0 {
		t.Errorf("something was left for Prune: %+v, %v", rep, err)
	}
	clean(t, s)
	if os.Getenv(envSteps) == "" {
		removeWhenFull(t, s, dir)
	}
}

// removeWhenFull leaves neither a byte nor an inode free: what frees space
// must work nonetheless.
func removeWhenFull(t *testing.T, s *Store, dir string) {
	put(t, s, "other", testImage(t, 2))
	put(t, s, "other", testImage(t, 3)) // and garbage
	fill, err := os.Create(filepath.Join(dir, "fill"))
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("fill", i)), nil, 0o600); err != nil {
			break
		}
	}
	err = s.Tag(t.Context(), "other", mustName(t, "third"))
	isFullError(t, "Tag", err, dir)
	if done, err := s.Remove(t.Context(), "kept", RemoveOptions{}); err != nil || len(done.Deleted) != 1 {
		t.Errorf("Remove on a full disk: %+v, %v", done, err)
	}
	if _, err := s.Prune(t.Context(), PruneOptions{Images: true}); err != nil {
		t.Errorf("Prune on a full disk: %v", err)
	}
	if got := names(t, s); got != "" {
		t.Errorf("List: %s", got)
	}
	clean(t, s)
}

func writeLayer(ctx context.Context, s *Store) error {
	w, err := s.LayerWriter(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	for range 200 {
		if _, err := w.Write(make([]byte, 10<<10)); err != nil {
			return err
		}
	}
	_, err = w.Commit()
	return err
}

// isFullError fails the test unless err names the file system and a way out.
func isFullError(t *testing.T, what string, err error, dir string) {
	t.Helper()
	var full *FullError
	if !errors.As(err, &full) || !strings.Contains(full.Hint(), "capstan prune") {
		t.Errorf("%s on a full disk: %v", what, err)
		return
	}
	if os.Getenv(envSteps) == "" && full.FileSystem != dir {
		t.Errorf("%s names file system %s instead of %s", what, full.FileSystem, dir)
	}
	t.Logf("%s: %v; %s", what, err, full.Hint())
}
