package erofs_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"capstan/internal/image/erofs/erofstest"
)

// checkExtracted compares what fsck.erofs extracts from an image with want.
// The program (version 1.5) gives contents, targets and permissions, no
// attributes, links or nanoseconds; devices and owners only to root. It leaves
// holes out of what it extracts, so files with holes are not compared.
func checkExtracted(t *testing.T, fsys fs.FS, image string, want []erofstest.File) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "x")
	// Without permissions, so that everyone can read and remove it.
	run(t, "erofs-utils", "fsck.erofs", "--extract="+dir, "--no-preserve", image)
	t.Cleanup(func() { os.RemoveAll(dir) })
	got, err := erofstest.FromDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	holes := map[string]bool{}
	for _, f := range want {
		if b, err := fs.ReadFile(fsys, f.Name); err == nil && f.Mode.IsRegular() && hasZeros(b) {
			holes[f.Name] = true
		}
	}
	if d := erofstest.Diff(simplify(want, holes), simplify(got, holes)); d != "" {
		t.Errorf("fsck.erofs --extract gave another tree:\n%s", d)
	}
}

// hasZeros tells whether an aligned run of 64 KiB of b is zero.
func hasZeros(b []byte) bool {
	for len(b) >= 1<<16 {
		if bytes.Count(b[:1<<16], []byte{0}) == 1<<16 {
			return true
		}
		b = b[1<<16:]
	}
	return false
}

// simplify leaves what fsck.erofs extracts.
func simplify(files []erofstest.File, without map[string]bool) []erofstest.File {
	var list []erofstest.File
	for _, f := range files {
		if f.Mode&(fs.ModeDevice|fs.ModeNamedPipe) != 0 || without[f.Name] {
			continue
		}
		list = append(list, erofstest.File{
			Name: f.Name, Mode: f.Mode.Type(), Size: f.Size, Target: f.Target, Digest: f.Digest,
		})
	}
	return list
}
