package erofs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/image/erofs"
)

// What mkfs.erofs writes is read as well: its inodes are compact, its chunks
// have indexes, and its metadata lies elsewhere.
func TestImagesOfMkfs(t *testing.T) {
	dir := t.TempDir()
	contents := map[string][]byte{
		"empty":    {},
		"small":    []byte("small"),
		"sub/tail": bytes.Repeat([]byte("tail"), 3000),
		"sub/large": append(append(bytes.Repeat([]byte("front"), 30000),
			make([]byte, 200000)...), bytes.Repeat([]byte("back"), 20000)...),
	}
	for i := range 300 {
		contents[fmt.Sprintf("many/%d%s", i, strings.Repeat("n", i%200))] = []byte(fmt.Sprint(i))
	}
	for name, content := range contents {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("sub/tail", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"plain":    {"-T1700000000"},
		"compact":  {"-T1700000000", "-Eforce-inode-compact"},
		"extended": {"-Eforce-inode-extended"},
		"blockmap": {"--chunksize=16384", "-Eforce-inode-blockmap"},
		"indexes":  {"--chunksize=4096", "-Eforce-chunk-indexes"},
		"noinline": {"-Enoinline_data"},
	} {
		t.Run(name, func(t *testing.T) {
			img := filepath.Join(t.TempDir(), "image")
			run(t, "erofs-utils", "mkfs.erofs", append(args, "--quiet", img, dir)...)
			f, err := os.Open(img)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fsys, err := erofs.Open(f)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range contents {
				if got, err := fs.ReadFile(fsys, name); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%q: %d bytes, want %d, %v", name, len(got), len(want), err)
				}
				if info, err := fsys.Stat(name); err != nil || info.Mode() != 0o640 {
					t.Errorf("%q: %v, %v", name, info, err)
				}
			}
			if list, err := fsys.ReadDir("many"); err != nil || len(list) != 300 {
				t.Errorf("%d entries, %v", len(list), err)
			}
			if got, err := fs.ReadFile(fsys, "link"); err != nil || len(got) != 12000 {
				t.Errorf("through the link: %d bytes, %v", len(got), err)
			}
		})
	}
}
