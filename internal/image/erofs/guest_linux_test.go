//go:build e2e

package erofs_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capstan/internal/image/erofs"
	"capstan/internal/image/erofs/erofstest"
	"capstan/internal/image/guesttest"
)

// TestGuestReadsBack: Linux reads from an image what is in the tars that it
// was made of, whatever a tar can hold.
func TestGuestReadsBack(t *testing.T) {
	random, _ := tree(t, 2026, 600)
	tars := []io.ReadSeeker{bytes.NewReader(random), bytes.NewReader(crowd(t)), sparse(t)}
	var want []erofstest.File
	_, name := image(t, erofs.Options{}, func(w *erofs.Writer) error {
		for _, data := range tars {
			if err := w.AddTar(bufio.NewReaderSize(data, 1<<20)); err != nil {
				return err
			}
			if _, err := data.Seek(0, io.SeekStart); err != nil {
				return err
			}
			files, err := erofstest.FromTar(data)
			if err != nil {
				return err
			}
			want = append(want, files...)
		}
		return nil
	})
	slices.SortFunc(want, func(a, b erofstest.File) int { return strings.Compare(a.Name, b.Name) })

	list, err := os.Create(filepath.Join(t.TempDir(), "list"))
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	if err := list.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	guesttest.New(t, "./testdata/guestinit").Boot(t, guesttest.Boot{Drives: []string{
		"format=raw,readonly=on,file=" + name,
		"format=raw,file=" + list.Name(),
	}})
	var got []erofstest.File
	if err := gob.NewDecoder(list).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if d := erofstest.Diff(want, got); d != "" {
		t.Errorf("the guest reads another tree:\n%s", d)
	}
	if len(got) < 100_000 {
		t.Errorf("only %d files were compared", len(got))
	}
}

// crowd is the tar of a directory of 100,000 entries.
func crowd(t *testing.T) []byte {
	t.Helper()
	headers := []*tar.Header{{Typeflag: tar.TypeDir, Name: "crowd/", Mode: 0o755, ModTime: time.Unix(1, 0)}}
	for i := range 100_000 {
		name := fmt.Sprintf("crowd/%d", i)
		if i%1000 == 0 {
			name += strings.Repeat("n", 255+len("crowd/")-len(name))
		}
		headers = append(headers, &tar.Header{Typeflag: tar.TypeReg, Name: name, Uid: i, Mode: 0o644, ModTime: time.Unix(int64(i), 0)})
	}
	return makeTar(t, headers...)
}

// sparse is the tar of a file of 4 GiB and more, most of it holes.
func sparse(t *testing.T) *os.File {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 1<<32 - 2, 1<<32 + 70000} {
		if _, err := f.WriteAt([]byte("abc"), at); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "tar")
	cmd := exec.Command("tar", "--format=posix", "-S", "-C", dir, "-cf", out, "sparse")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, b)
	}
	r, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
