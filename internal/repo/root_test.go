package repo

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func writeRoot(ctx context.Context, f *os.File) error {
	_, err := f.WriteString("root")
	return err
}

func TestRootIsMadeOnce(t *testing.T) {
	s, dir := testStore(t), t.TempDir()
	digest := put(t, s, "x", testImage(t, 1)).Digest
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			dst := filepath.Join(dir, strconv.Itoa(i))
			err := s.Root(t.Context(), digest, dst, func(ctx context.Context, f *os.File) error {
				made.Add(1)
				return writeRoot(ctx, f)
			})
			if got, rerr := os.ReadFile(dst); err != nil || string(got) != "root" {
				t.Errorf("Root: %q, %v, %v", got, err, rerr)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
	if fi, err := os.Stat(filepath.Join(dir, "3")); err != nil || fi.Mode().Perm()&0o222 != 0 {
		t.Errorf("root can be written: %v, %v", fi.Mode(), err)
	}
	clean(t, s)
	if rep, err := s.Prune(t.Context(), PruneOptions{Roots: true}); err != nil || rep.Roots != 1 {
		t.Errorf("Prune of roots: %+v, %v", rep, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "3")); string(got) != "root" {
		t.Errorf("an instance's root after Prune: %q, %v", got, err)
	}
	if left, err := os.ReadDir(s.rootsDir()); err != nil || len(left) > 0 {
		t.Errorf("left in roots: %v, %v", left, err)
	}
	if err := s.Root(t.Context(), digest, filepath.Join(dir, "3"), writeRoot); !errors.Is(err, os.ErrExist) {
		t.Errorf("Root at an existing path: %v", err)
	}
}

func TestRootFails(t *testing.T) {
	s, dst := testStore(t), filepath.Join(t.TempDir(), "root")
	digest := put(t, s, "x", testImage(t, 1)).Digest
	broken := errors.New("broken")
	err := s.Root(t.Context(), digest, dst, func(ctx context.Context, f *os.File) error {
		return errors.Join(writeRoot(ctx, f), broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("Root: %v", err)
	}
	clean(t, s)
	if err := s.Root(t.Context(), v1.Hash{Algorithm: "sha256", Hex: "../../x"}, dst, writeRoot); err == nil {
		t.Error("Root of a digest that is none works")
	}
	// Waiting for another's root ends with the context.
	ctx, cancel := context.WithCancel(t.Context())
	err = s.Root(t.Context(), digest, dst, func(_ context.Context, f *os.File) error {
		cancel()
		if err := s.Root(ctx, digest, dst+"2", writeRoot); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting: %v", err)
		}
		return writeRoot(ctx, f)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRootHoldsImage removes and prunes an image while it is flattened.
func TestRootHoldsImage(t *testing.T) {
	s := testStore(t)
	digest := put(t, s, "x", testImage(t, 1, 2)).Digest
	img, _, err := s.Image(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	err = s.Root(t.Context(), digest, filepath.Join(t.TempDir(), "root"), func(ctx context.Context, f *os.File) error {
		if done, err := s.Remove(ctx, "x", RemoveOptions{}); err != nil || done.Freed.Blobs != 0 {
			t.Errorf("Remove: %+v, %v", done, err)
		}
		valid(t, img)
		return writeRoot(ctx, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := s.Prune(t.Context(), PruneOptions{}); err != nil || rep.Blobs != 4 || rep.Roots != 1 {
		t.Errorf("Prune: %+v, %v", rep, err)
	}
	clean(t, s)
}

// An open root is read to its end though the cache is emptied.
func TestOpenRoot(t *testing.T) {
	s := testStore(t)
	digest := put(t, s, "x", testImage(t, 1)).Digest
	broken := errors.New("broken")
	if _, err := s.OpenRoot(t.Context(), digest, func(context.Context, *os.File) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a root that cannot be made: %v", err)
	}
	f, err := s.OpenRoot(t.Context(), digest, writeRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if rep, err := s.Prune(t.Context(), PruneOptions{Roots: true}); runtime.GOOS != "windows" && (err != nil || rep.Roots != 1) {
		t.Errorf("Prune: %+v, %v", rep, err)
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != "root" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestCopyWithoutLinks(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.WriteFile(src, []byte("root"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := copyFile(t.Context(), src, dst); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dst); string(got) != "root" {
		t.Errorf("copy: %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := copyFile(ctx, src, dst+"2"); !errors.Is(err, context.Canceled) {
		t.Errorf("copy with an ended context: %v", err)
	}
	if _, err := os.Stat(dst + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a copy is left: %v", err)
	}
}
