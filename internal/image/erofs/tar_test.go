package erofs_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"capstan/internal/image/erofs"
)

// makeTar writes headers; regular files are filled with zeros.
func makeTar(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAddTar(t *testing.T) {
	data := makeTar(t,
		&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}},
		// A type in the mode that contradicts the flag, as some writers have it.
		&tar.Header{Typeflag: tar.TypeReg, Name: "./f", Mode: 0o120000 | 0o4755},
		&tar.Header{Typeflag: tar.TypeLink, Name: "d/g", Linkname: "./f"},
		&tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o600, PAXRecords: map[string]string{
			"SCHILY.xattr.user.kept":                 "1",
			"SCHILY.xattr.com.apple.provenance":      "2",
			"SCHILY.xattr.system.nfs4_acl":           "3",
			"SCHILY.xattr.user.":                     "4",
			"SCHILY.xattr.system.posix_acl_accessor": "5",
		}},
	)
	fsys, _ := image(t, erofs.Options{}, func(w *erofs.Writer) error {
		return w.AddTar(bytes.NewReader(data))
	})
	info, err := fsys.Lstat("d/g")
	if err != nil || info.Mode() != 0o755|fs.ModeSetuid {
		t.Errorf("d/g is %v, %v", info, err)
	}
	if info, err := fsys.Lstat("d"); err != nil || info.ModTime().Unix() != 0 || info.Mode() != 0o755|fs.ModeDir {
		t.Errorf("the missing parent is %v, %v", info, err)
	}
	want := map[string][]byte{"user.kept": {'1'}}
	if got, err := fsys.Xattrs("x"); err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("attributes are %q, %v", got, err)
	}
}

func TestAddTarRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		header tar.Header
		want   error
	}{
		"dot dot":          {tar.Header{Typeflag: tar.TypeReg, Name: "../../etc/passwd"}, erofs.ErrName},
		"link out":         {tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "../a"}, erofs.ErrName},
		"link too early":   {tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}, fs.ErrNotExist},
		"unknown type":     {tar.Header{Typeflag: 'Z', Name: "a"}, erofs.ErrEntry},
		"large owner":      {tar.Header{Typeflag: tar.TypeReg, Name: "a", Uid: 1 << 33}, erofs.ErrEntry},
		"large device":     {tar.Header{Typeflag: tar.TypeChar, Name: "a", Devmajor: 1 << 20}, erofs.ErrEntry},
		"absolute, inside": {tar.Header{Typeflag: tar.TypeReg, Name: "/etc/passwd"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := erofs.Create(&memory{}, erofs.Options{})
			if err := w.AddTar(bytes.NewReader(makeTar(t, &c.header))); !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		data := makeTar(t, &tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 100000})
		w := erofs.Create(&memory{}, erofs.Options{})
		if err := w.AddTar(bytes.NewReader(data[:50000])); err == nil {
			t.Error("no error")
		}
	})
}

// Sparse files in each of the ways that GNU tar writes them.
func TestSparseTars(t *testing.T) {
	dir := t.TempDir()
	const size = 40<<20 + 5
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{1 << 20, 1<<20 + 8192, 20<<20 + 77, size - 3} {
		if _, err := f.WriteAt([]byte("abc"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"GNU":     {"--format=gnu"},
		"PAX 0.0": {"--format=posix", "--sparse-version=0.0"},
		"PAX 0.1": {"--format=posix", "--sparse-version=0.1"},
		"PAX 1.0": {"--format=posix", "--sparse-version=1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tar")
			run(t, "tar", "tar", append(args, "-S", "--hole-detection=raw", "-C", dir, "-cf", file, "sparse")...)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > 1<<20 {
				t.Fatalf("the tar has %d bytes: tar found no holes", len(data))
			}
			fsys, name := image(t, erofs.Options{}, func(w *erofs.Writer) error {
				return w.AddTar(bytes.NewReader(data))
			})
			if got, err := fs.ReadFile(fsys, "sparse"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("content differs, %v", err)
			}
			if info, err := os.Stat(name); err != nil || info.Size() > 1<<20 {
				t.Errorf("the image has %d bytes, %v", info.Size(), err)
			}
		})
	}
}

// The space of files that were replaced is used again.
func TestReplacedFilesLeaveRoom(t *testing.T) {
	data := makeTar(t)
	w := erofs.Create(&memory{}, erofs.Options{})
	content := bytes.Repeat([]byte("content "), 1<<17)
	for range 20 {
		e := erofs.Entry{Name: "f", Size: int64(len(content))}
		if err := errors.Join(w.Remove("f"), w.Add(&e, bytes.NewReader(content)), w.AddTar(bytes.NewReader(data))); err != nil {
			t.Fatal(err)
		}
	}
	if size, err := w.Close(); err != nil || size > 1<<20+1<<16 {
		t.Errorf("the image has %d bytes, %v", size, err)
	}
}
