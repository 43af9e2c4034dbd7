package erofs_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"capstan/internal/image/erofs"
	"capstan/internal/image/erofs/erofstest"
)

func TestRandomTreesComeBack(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			data, want := tree(t, seed, 25*int(seed))
			fsys, name := image(t, erofs.Options{}, func(w *erofs.Writer) error {
				return w.AddTar(bytes.NewReader(data))
			})
			if d := erofstest.Diff(want, files(t, fsys)); d != "" {
				t.Error(d)
			}
			checkExtracted(t, fsys, name, want)
		})
	}
}

// Entries that arrive child first, replace each other and come in layers end
// as the same tree.
func TestRandomOrderAndReplacement(t *testing.T) {
	old, _ := tree(t, 100, 300)
	data, want := tree(t, 101, 300)
	fsys, _ := image(t, erofs.Options{}, func(w *erofs.Writer) error {
		if err := w.AddTar(bytes.NewReader(old)); err != nil {
			return err
		}
		w.BeginLayer()
		for range 2 {
			if err := w.AddTar(bytes.NewReader(data)); err != nil {
				return err
			}
		}
		return w.Opaque("/")
	})
	if d := erofstest.Diff(want, files(t, fsys)); d != "" {
		t.Error(d)
	}
}

func TestSameInputSameBytes(t *testing.T) {
	old, _ := tree(t, 7, 200)
	data, _ := tree(t, 8, 200)
	make := func(dst io.WriterAt) {
		w := erofs.Create(dst, erofs.Options{UUID: [16]byte{1, 2}})
		for _, layer := range [][]byte{old, data, old} {
			w.BeginLayer()
			if err := w.AddTar(bytes.NewReader(layer)); err != nil {
				t.Fatal(err)
			}
			if err := w.Opaque("."); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var first memory
	make(&first)
	for range 5 {
		// What the destination held before must not show through.
		again := memory{bytes.Repeat([]byte{0xa5}, len(first.b))}
		make(&again)
		if !bytes.Equal(first.b, again.b) {
			t.Fatal("the same calls gave another image")
		}
	}
}

func TestReaderIsAnFS(t *testing.T) {
	_, list := tree(t, 3, 60)
	var names []string
	fsys, _ := image(t, erofs.Options{}, func(w *erofs.Writer) error {
		for _, f := range list {
			// TestFS follows every link and refuses backslashes and what is not UTF-8.
			if !f.Mode.IsRegular() && !f.Mode.IsDir() || strings.Contains(f.Name, `\`) || !fs.ValidPath(f.Name) {
				continue
			}
			if f.Name != "." {
				names = append(names, f.Name)
			}
			content := strings.NewReader(strings.Repeat("x", int(f.Size)))
			if err := w.Add(&erofs.Entry{Name: f.Name, Mode: f.Mode, Size: f.Size}, content); err != nil {
				return err
			}
		}
		for _, e := range []erofs.Entry{
			{Name: "real/dir/file"},
			{Name: "link", Mode: fs.ModeSymlink | 0o777, Target: "/real/./../real/up"},
			{Name: "real/up", Mode: fs.ModeSymlink | 0o777, Target: "../../../real/dir/"},
		} {
			if err := w.Add(&e, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err := fstest.TestFS(fsys, append(names, "link", "real/up")...); err != nil {
		t.Error(err)
	}
	if info, err := fsys.Stat("link/file"); err != nil || !info.Mode().IsRegular() {
		t.Errorf("through symbolic links: %v, %v", info, err)
	}
}
