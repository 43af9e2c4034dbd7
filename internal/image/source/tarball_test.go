package source

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// makeTar writes an archive of headers; see fileHeader for the content.
func makeTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		content := h.Uname
		h.Uname, h.Size = "", int64(len(content))
		if h.Typeflag != tar.TypeXGlobalHeader {
			h.Uname, h.Mode, h.ModTime = "someone", cmp.Or(h.Mode, 0o644), day
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fileHeader is a regular file; Uname carries its content to makeTar.
func fileHeader(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: content}
}

// copyTar passes an archive through a Layer.
func copyTar(t testing.TB, data []byte, note func(string)) ([]byte, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rootfs.tar")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, day, day); err != nil {
		t.Fatal(err)
	}
	l, err := FromTar(name, Options{Notes: note})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.WriteTar(context.Background(), &out); err != nil {
		return out.Bytes(), errors.New(strings.TrimPrefix(err.Error(), "reading "+name+": "))
	}
	return out.Bytes(), nil
}

func everyKind() []tar.Header {
	return []tar.Header{
		{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}},
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700},
		{Typeflag: tar.TypeDir, Name: "./etc/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "/etc/passwd", Uname: "p", Uid: 5, Gid: 6, Mode: 0o4755},
		{Typeflag: tar.TypeLink, Name: "etc/passwd-", Linkname: "./etc/passwd"},
		{Typeflag: tar.TypeSymlink, Name: "etc/l", Linkname: "../../../x", Mode: 0o777},
		{Typeflag: tar.TypeLink, Name: "etc/l2", Linkname: "etc/l"},
		{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3, Mode: 0o666},
		{Typeflag: tar.TypeBlock, Name: "dev/vda", Devmajor: 254, Mode: 0o600},
		{Typeflag: tar.TypeDir, Name: "dev", Mode: 0o711},
		{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600},
		{Typeflag: tar.TypeReg, Name: "cap", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "SCHILY.xattr.user.a": "b",
			"SCHILY.xattr.security.selinux": "s", "SCHILY.xattr.trusted.overlay.opaque": "y",
			"SCHILY.xattr.user.overlay.opaque": "y", "VENDOR.x": "z",
		}},
	}
}

func TestFromTar(t *testing.T) {
	plain := makeTar(t, everyKind()...)
	want := []string{
		"5 0755 etc/", "0 4755 5:6 etc/passwd = p", "1 0644 etc/passwd- -> etc/passwd", "2 0777 etc/l -> ../../../x", "1 0644 etc/l2 -> etc/l",
		"5 0755 dev/", "3 0666 dev/null 1:3", "4 0600 dev/vda 254:0", "5 0711 dev/", "6 0600 fifo", "0 0755 cap = ",
	}
	var zipped, zstded bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	zs, err := zstd.NewWriter(&zstded)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{gz, zs} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var first []byte
	for name, data := range map[string][]byte{"plain": plain, "gzip": zipped.Bytes(), "zstd": zstded.Bytes()} {
		t.Run(name, func(t *testing.T) {
			var notes []string
			out, err := copyTar(t, data, func(s string) { notes = append(notes, s) })
			if err != nil {
				t.Fatal(err)
			}
			got, headers := entries(t, out)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("\ngot  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			}
			records := map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "SCHILY.xattr.user.a": "b"}
			if !reflect.DeepEqual(headers["cap"].PAXRecords, records) {
				t.Errorf("attributes %q", headers["cap"].PAXRecords)
			}
			if len(notes) != 1 || !strings.Contains(notes[0], "and others like it, are left out") {
				t.Errorf("notes %q", notes)
			}
			if first == nil {
				first = out
			}
			if !bytes.Equal(first, out) {
				t.Error("compression changes the bytes")
			}
		})
	}
}

func TestFromTarMistakes(t *testing.T) {
	long := strings.Repeat("x", 256)
	tests := []struct {
		name    string
		headers []tar.Header
		want    string
	}{
		{"step up", []tar.Header{fileHeader("a/../../b", "")}, `entry "a/../../b": the name has ".." in it`},
		{"deletion", []tar.Header{fileHeader("etc/.wh.passwd", "")}, `entry "etc/.wh.passwd": names that begin with ".wh." mean deletions in a layer: this is a layer, not a root file system`},
		{"long part", []tar.Header{fileHeader("a/"+long, "")}, `entry "a/` + long[:78] + `…": the name has a part of more than 255 bytes`},
		{"long name", []tar.Header{fileHeader(strings.Repeat("abc/", 1100)+"f", "")}, `entry "` + strings.Repeat("abc/", 20) + `…": the name is longer than 4095 bytes`},
		{"twice", []tar.Header{fileHeader("a", "1"), fileHeader("./a", "2")}, `entry "./a": it comes twice`},
		{"file where a directory is", []tar.Header{fileHeader("a/b", "1"), fileHeader("a", "2")}, `entry "a": it comes twice`},
		{"below a file", []tar.Header{fileHeader("a", "1"), fileHeader("a/b", "2")}, `entry "a/b": it lies below "a", which is no directory`},
		{"below a link", []tar.Header{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc"}, fileHeader("a/b", "2")}, `entry "a/b": it lies below "a", which is no directory`},
		{"link to nothing", []tar.Header{{Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}}, `entry "a": a hard link to "b", which is no earlier file`},
		{"link to itself", []tar.Header{{Typeflag: tar.TypeLink, Name: "a", Linkname: "a"}}, `entry "a": a hard link to "a", which is no earlier file`},
		{"link to a directory", []tar.Header{{Typeflag: tar.TypeDir, Name: "d/"}, {Typeflag: tar.TypeLink, Name: "a", Linkname: "d"}}, `entry "a": a hard link to "d", which is no earlier file`},
		{"link out", []tar.Header{{Typeflag: tar.TypeLink, Name: "a", Linkname: "../d"}}, `entry "a": the hard link's target "../d": the name has ".." in it`},
		{"owner", []tar.Header{{Typeflag: tar.TypeReg, Name: "a", Uid: 1 << 33}}, `entry "a": its owner 8589934592:0 is out of range`},
		{"type", []tar.Header{{Typeflag: 'Q', Name: "a"}}, `entry "a": an entry of the unknown type 'Q'`},
		{"saved image", []tar.Header{fileHeader("oci-layout", "{}")}, `entry "oci-layout": this is a saved image, not a root file system, such as docker export writes`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := copyTar(t, makeTar(t, tt.headers...), func(string) {})
			if err == nil || err.Error() != tt.want {
				t.Errorf("\ngot  %v\nwant %s", err, tt.want)
			}
			noEnd(t, out)
		})
	}
}

func TestFromTarDamaged(t *testing.T) {
	plain := makeTar(t, fileHeader("a", strings.Repeat("1", 1000)), fileHeader("b", "2"))
	var zipped bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	if _, err := gz.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(zipped.Bytes())
	flipped[len(flipped)-6]++ // the checksum
	header := bytes.Clone(plain)
	header[0]++
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "not a tar"},
		{"text", []byte(strings.Repeat("text ", 300)), "archive/tar: invalid tar header"},
		{"header", header, "archive/tar: invalid tar header"},
		{"cut in content", plain[:1000], "unexpected EOF"},
		{"cut in a header", plain[:512*3+100], "unexpected EOF"},
		{"cut between entries", plain[:512*3], "truncated: the end of the archive is missing"},
		{"gzip cut", zipped.Bytes()[:zipped.Len()-20], "unexpected EOF"},
		{"gzip checksum", flipped, "gzip: invalid checksum"},
		{"gzip of nothing", []byte("\x1f\x8b"), "unexpected EOF"},
		{"zstd of nothing", []byte("\x28\xb5\x2f\xfd"), "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := copyTar(t, tt.data, func(string) {})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			noEnd(t, out)
		})
	}
}

// TestFromTarHuge makes sure that a short archive of an endless file ends.
func TestFromTarHuge(t *testing.T) {
	var out bytes.Buffer
	h := tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: maxContent + 1}
	if err := tar.NewWriter(&out).WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := copyTar(t, out.Bytes(), func(string) {}); err == nil || !strings.Contains(err.Error(), "more than 1 TiB") {
		t.Errorf("got %v", err)
	}
}

func TestTarFingerprint(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.tar")
	print := func() string {
		l, err := FromTar(name, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return l.Fingerprint()
	}
	if err := os.WriteFile(name, makeTar(t, fileHeader("a", "1")), 0o644); err != nil {
		t.Fatal(err)
	}
	before := print()
	if print() != before {
		t.Error("changes by itself")
	}
	if err := os.Chtimes(name, day, day); err != nil {
		t.Fatal(err)
	}
	if print() == before {
		t.Error("does not change")
	}
}

func FuzzTar(f *testing.F) {
	f.Add(makeTar(f, everyKind()...))
	f.Add(makeTar(f, fileHeader("a", "1"), fileHeader("a/b", "2")))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		c := &tarCopy{
			in: &countReader{r: bytes.NewReader(data)}, out: tar.NewWriter(&out), note: func(string) {},
			room: 1 << 20, seen: map[string]byte{}, buf: make([]byte, 4096),
		}
		if c.all(context.Background()) != nil {
			return
		}
		if err := c.out.Close(); err != nil {
			t.Fatal(err)
		}
		r := tar.NewReader(&out)
		for {
			h, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if name := strings.TrimSuffix(h.Name, "/"); name == "" || name[0] == '/' || strings.Contains("/"+name+"/", "/../") {
				t.Errorf("the name %q was let through", h.Name)
			}
		}
	})
}

func TestFrom(t *testing.T) {
	dir := t.TempDir()
	old := makeTar(t, fileHeader("a", "1"))
	copy(old[257:265], make([]byte, 8)) // no magic number, so the checksum is another
	sum := 8 * int(' ')
	for i, c := range old[:512] {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(old[148:156], fmt.Sprintf("%06o\x00 ", sum))
	write(t, dir, map[string]string{
		"d/x": "", "x.tar": string(makeTar(t, fileHeader("a", "1"))), "old.tar": string(old), "empty": "",
		"text": "hello", "x.tar.xz": "\xfd7zXZ\x00", "x.jar": "PK\x03\x04", "script": "#!/bin/sh\n", "x.exe": "MZ",
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"d": "directory", "x.tar": "tar", "old.tar": "tar",
		"empty":    "DIR/empty is neither an ELF program, nor a directory, nor a tar",
		"text":     "DIR/text is neither an ELF program, nor a directory, nor a tar",
		"x.tar.xz": "DIR/x.tar.xz is compressed by xz: neither an ELF program, nor a directory, nor a tar",
		"x.jar":    "DIR/x.jar is a zip or jar: neither an ELF program, nor a directory, nor a tar",
		"x.exe":    "DIR/x.exe is a Windows program: neither an ELF program, nor a directory, nor a tar",
		"script":   "DIR/script is a script for /bin/sh, not a program",
		"absent":   "reading DIR/absent: no such file or directory",
		self:       "program",
	} {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		l, err := From(context.Background(), name, Options{})
		got := ""
		if err != nil {
			got = strings.ReplaceAll(filepath.ToSlash(err.Error()), filepath.ToSlash(dir), "DIR")
		} else {
			got = l.Kind.String()
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}
