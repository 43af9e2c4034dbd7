package erofs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"capstan/internal/image/erofs"
	"capstan/internal/image/erofs/erofstest"
)

// image makes an image with fill, checks it with fsck.erofs, and opens it.
func image(t *testing.T, opts erofs.Options, fill func(*erofs.Writer) error) (*erofs.FS, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w := erofs.Create(f, opts)
	if err := fill(w); err != nil {
		t.Fatal(err)
	}
	size, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Fatalf("Close gave size %d, the file has %v, %v", size, info.Size(), err)
	}
	run(t, "erofs-utils", "fsck.erofs", name)
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return fsys, name
}

// need fails the test if there is no such program.
func need(t testing.TB, pkg, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, pkg)
	}
}

// run runs a program that a Debian package has.
func run(t testing.TB, pkg, name string, args ...string) []byte {
	t.Helper()
	need(t, pkg, name)
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

// tree gives the tar of a random tree, and what is in it.
func tree(t testing.TB, seed uint64, entries int) ([]byte, []erofstest.File) {
	t.Helper()
	var b bytes.Buffer
	if err := erofstest.Tree(&b, seed, entries); err != nil {
		t.Fatal(err)
	}
	files, err := erofstest.FromTar(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), files
}

// files lists an image.
func files(t *testing.T, fsys *erofs.FS) []erofstest.File {
	t.Helper()
	list, err := erofstest.FromImage(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// memory is a destination that grows.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	return copy(m.b[off:], p), nil
}
