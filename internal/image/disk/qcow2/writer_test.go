package qcow2

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// write makes an image of what is written to its disk, and the raw disk.
func write(t *testing.T, size int64, parts map[int64]int) (image, raw string) {
	t.Helper()
	dir := t.TempDir()
	image, raw = filepath.Join(dir, "image"), filepath.Join(dir, "raw")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := os.Create(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Truncate(size); err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(f, size)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	for at, n := range parts {
		content := make([]byte, n)
		random.Read(content)
		for _, to := range []interface {
			WriteAt([]byte, int64) (int, error)
		}{w, r} {
			if k, err := to.WriteAt(content, at); err != nil || k != n {
				t.Fatalf("writing %d bytes at %d: %d, %v", n, at, k, err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return image, raw
}

// everyCluster has a byte in each of the first n clusters.
func everyCluster(n int64) map[int64]int {
	parts := map[int64]int{}
	for i := range n {
		parts[i*cluster] = 1
	}
	return parts
}

func TestWriter(t *testing.T) {
	for name, tt := range map[string]struct {
		size  int64
		parts map[int64]int
	}{
		"empty":      {1 << 20, nil},
		"a sector":   {512, map[int64]int{0: 512}},
		"odd parts":  {3<<20 + 512, map[int64]int{1: 70000, 65535: 2, 1 << 20: 1, 2<<20 + 100: 1<<20 + 412}},
		"far apart":  {100 << 30, map[int64]int{0: 100, 50 << 30: 200 << 10, 100<<30 - 512: 512}},
		"very large": {10 << 40, map[int64]int{9 << 40: 4096}},
		// A byte in each cluster makes more than one block of refcounts.
		"more refcounts": {3 << 30, everyCluster(refcounts + 10)},
	} {
		t.Run(name, func(t *testing.T) {
			image, raw := write(t, tt.size, tt.parts)
			qemuImg(t, "check", image)
			f, err := os.Open(image)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if h, err := ReadHeader(f, info.Size()); err != nil || h.Size != tt.size {
				t.Errorf("its header reads as %+v, %v", h, err)
			}
			if tt.size < 1<<32 { // QEMU compares what is not there, too
				qemuImg(t, "compare", "-f", "raw", "-F", "qcow2", raw, image)
			}
		})
	}
}

func TestWriterBounds(t *testing.T) {
	for _, size := range []int64{0, -512, 511, 1 << 62} {
		if _, err := NewWriter(nil, size); err == nil {
			t.Errorf("a disk of %d bytes", size)
		}
	}
	w, err := NewWriter(nil, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{-1, 1, 1025, 1 << 62} {
		if n, err := w.WriteAt(bytes.Repeat([]byte{1}, 1024), at); n != 0 || err == nil {
			t.Errorf("writing at %d: %d, %v", at, n, err)
		}
	}
}
