package erofs_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	"capstan/internal/image/erofs"
	"capstan/internal/image/erofs/erofstest"
)

// FuzzAddTar: whatever arrives as a tar is refused, or gives an image that can
// be read; its size is bounded by what the options allow.
func FuzzAddTar(f *testing.F) {
	for seed := range uint64(4) {
		data, _ := tree(f, seed, 8)
		f.Add(data[:min(len(data), 20000)])
	}
	f.Add(makeTar(f,
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "../s/t"},
		&tar.Header{Typeflag: tar.TypeReg, Name: "s/f", Size: 70000},
		&tar.Header{Typeflag: tar.TypeLink, Name: "s", Linkname: "s/f"},
	))
	opts := erofs.Options{MaxEntries: 200, MaxContent: 1 << 20, MaxMetadata: 1 << 18, MaxXattrs: 1 << 12, MaxDepth: 20}
	f.Fuzz(func(t *testing.T, data []byte) {
		var dst memory
		w := erofs.Create(&dst, opts)
		_ = w.AddTar(bytes.NewReader(data)) // may fail at any entry: the tree before it stays
		w.BeginLayer()
		if err := w.Whiteout("s"); err != nil && !errors.Is(err, erofs.ErrLoop) {
			t.Fatal(err)
		}
		size, err := w.Close()
		if err != nil || size != int64(len(dst.b)) {
			t.Fatalf("Close gave %d for %d bytes, %v", size, len(dst.b), err)
		}
		// Each entry at worst wastes a block for attributes and one for data.
		if limit := opts.MaxContent + opts.MaxEntries*4*4096; size > limit {
			t.Fatalf("the image has %d bytes, more than %d", size, limit)
		}
		fsys, err := erofs.Open(bytes.NewReader(dst.b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := erofstest.FromImage(fsys); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzOpen: a damaged image gives errors, not more.
func FuzzOpen(f *testing.F) {
	for seed := range uint64(4) {
		data, _ := tree(f, seed, 4)
		var dst memory
		w := erofs.Create(&dst, erofs.Options{})
		if err := w.AddTar(bytes.NewReader(data)); err != nil {
			f.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(dst.b[:min(len(dst.b), 20000)])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1028 {
			// Otherwise nothing would ever get past the checksum.
			data = bytes.Clone(data)
			if len(data) > 1036 {
				data[1032] &^= 1
			}
		}
		fsys, err := erofs.Open(bytes.NewReader(data))
		if err != nil {
			return
		}
		left := 200 // directories may contain themselves
		_ = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if left--; left == 0 {
				return fs.SkipAll
			}
			if err != nil {
				return nil
			}
			_, _ = d.Info()
			_, _ = fsys.Xattrs(name)
			_, _ = fsys.ReadLink(name)
			if r, err := fsys.Open(name); err == nil {
				_, _ = io.CopyN(io.Discard, r, 1<<20)
				_ = r.Close()
			}
			return nil
		})
	})
}
