package image_test

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/image/erofs/erofstest"
	"capstan/internal/image/imagetest"
)

func entry(kind byte, name, link string) imagetest.Entry {
	return imagetest.Entry{Header: tar.Header{
		Typeflag: kind, Name: name, Linkname: link, Mode: 0o755, ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX,
	}}
}

func dir(name string) imagetest.Entry             { return entry(tar.TypeDir, name, "") }
func symlink(name, target string) imagetest.Entry { return entry(tar.TypeSymlink, name, target) }
func link(name, target string) imagetest.Entry    { return entry(tar.TypeLink, name, target) }
func device(name string, major, minor int64) imagetest.Entry {
	e := entry(tar.TypeChar, name, "")
	e.Devmajor, e.Devminor = major, minor
	return e
}

func file(name, content string) imagetest.Entry {
	e := entry(tar.TypeReg, name, "")
	e.Content = content
	return e
}

func with(e imagetest.Entry, change func(*tar.Header)) imagetest.Entry {
	change(&e.Header)
	return e
}

func opaque(dir string) imagetest.Entry { return file(dir+"/.wh..wh..opq", "") }

// layers is an image of the given layers.
func layers(t testing.TB, all ...[]imagetest.Entry) v1.Image {
	t.Helper()
	var list []v1.Layer
	for _, entries := range all {
		list = append(list, imagetest.Gzip(t, imagetest.Tar(t, entries...)))
	}
	return imagetest.Image(t, list...)
}

// show tells what a tree holds, in a line a name.
func show(files []erofstest.File) []string {
	var list []string
	for _, f := range files {
		line := f.Name
		switch {
		case f.Name == ".":
			continue
		case f.Mode.IsDir():
			line += "/"
		case f.Target != "":
			line += " -> " + f.Target
		case f.Mode.IsRegular():
			line += fmt.Sprint("=", f.Size)
		}
		if f.Links > 1 {
			line += " =" + f.First
		}
		list = append(list, line)
	}
	return list
}

// TestFlatten is about what single entries mean. Each case is compared with
// umoci, except where that is known to be wrong; not says how.
func TestFlatten(t *testing.T) {
	type layer = []imagetest.Entry
	long := strings.Repeat("n", 255)
	deep := strings.TrimSuffix(strings.Repeat("d/", 300), "/")
	for name, c := range map[string]struct {
		layers []layer
		want   string // what show gives, separated by "; "
		not    string
	}{
		"whiteout":                  {layers: []layer{{file("a", "1"), file("d/e/f", "1")}, {file(".wh.a", ""), file("d/.wh.e", "")}}, want: "d/"},
		"whiteout of nothing":       {layers: []layer{{file("a", "1")}, {file(".wh.b", ""), file("x/y/.wh.z", "")}}, want: "a=1"},
		"whiteout before the entry": {layers: []layer{{file("d/a", "1"), file("d/b", "1")}, {file(".wh.d", ""), file("d/a", "22")}}, want: "d/; d/a=2"},
		"whiteout after the entry":  {layers: []layer{{file("d/a", "1"), file("d/b", "1")}, {file("d/a", "22"), file(".wh.d", "")}}, want: "d/; d/a=2"},
		"whiteout by a directory":   {layers: []layer{{file("a", "1")}, {dir(".wh.a/")}}},
		"opaque before its siblings": {
			layers: []layer{{file("d/a", "1"), file("d/e/b", "1")}, {dir("d"), opaque("d"), file("d/e/c", "1")}},
			want:   "d/; d/e/; d/e/c=1",
		},
		"opaque after its siblings": {
			layers: []layer{{file("d/a", "1"), file("d/e/b", "1")}, {dir("d"), file("d/e/c", "1"), opaque("./d")}},
			want:   "d/; d/e/; d/e/c=1",
		},
		"opaque root":            {layers: []layer{{file("d/a", "1"), file("b", "1")}, {file("c", "1"), opaque(".")}}, want: "c=1"},
		"opaque through a link":  {layers: []layer{{file("d/a", "1"), symlink("s", "d")}, {opaque("s")}}, want: "d/; s -> d"},
		"link across layers":     {layers: []layer{{file("a", "1")}, {link("b", "a")}}, want: "a=1 =a; b=1 =a"},
		"link, target replaced":  {layers: []layer{{file("a", "1")}, {link("b", "a")}, {file("a", "22")}}, want: "a=2; b=1"},
		"link, target gone":      {layers: []layer{{file("a", "1"), link("b", "a")}, {file(".wh.a", "")}}, want: "b=1"},
		"link to a symlink":      {layers: []layer{{symlink("s", "x")}, {link("t", "s")}}, want: "s -> x =s; t -> x =s"},
		"link through a symlink": {layers: []layer{{file("d/a", "1"), symlink("s", "/d")}, {link("b", "s/a")}}, want: "b=1 =b; d/; d/a=1 =b; s -> /d"},
		"absolute link":          {layers: []layer{{file("a", "1"), link("b", "/a")}}, want: "a=1 =a; b=1 =a"},
		"file by directory":      {layers: []layer{{file("a", "1")}, {dir("a"), file("a/b", "1")}}, want: "a/; a/b=1"},
		"directory by file":      {layers: []layer{{file("a/b/c", "1")}, {file("a", "1")}}, want: "a=1"},
		"directory by symlink":   {layers: []layer{{file("a/b/c", "1")}, {symlink("a", "x")}}, want: "a -> x"},
		"symlink by directory":   {layers: []layer{{file("d/x", "1"), symlink("a", "d")}, {dir("a"), file("a/y", "1")}}, want: "a/; a/y=1; d/; d/x=1"},
		"directory repeated":     {layers: []layer{{file("a/b", "1")}, {with(dir("a"), func(h *tar.Header) { h.Mode, h.Uid = 0o2700, 7 })}}, want: "a/; a/b=1"},
		"attributes taken away": {
			layers: []layer{{with(dir("a"), func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1"} })}, {dir("a")}},
			want:   "a/",
		},
		"below a symlink":           {layers: []layer{{dir("usr/lib"), symlink("lib", "usr/lib")}, {file("lib/x", "1"), file("lib/y/z", "1")}}, want: "lib -> usr/lib; usr/; usr/lib/; usr/lib/x=1; usr/lib/y/; usr/lib/y/z=1"},
		"below a symlink upwards":   {layers: []layer{{symlink("s", "../../../etc")}, {file("s/passwd", "1")}}, want: "etc/; etc/passwd=1; s -> ../../../etc"},
		"below a symlink to a root": {layers: []layer{{symlink("s", "/")}, {file("s/x", "1")}}, want: "s -> /; x=1"},
		"duplicates":                {layers: []layer{{file("a", "1"), dir("a"), file("a", "22"), symlink("a", "x"), file("a", "333")}}, want: "a=3"},
		"missing parents":           {layers: []layer{{file("a/b/c", "1")}}, want: "a/; a/b/; a/b/c=1"},
		"missing parents, setgid":   {layers: []layer{{with(dir("a"), func(h *tar.Header) { h.Mode, h.Gid = 0o2770, 9 })}, {file("a/b/c", "1")}}, want: "a/; a/b/; a/b/c=1"},
		"forms of a name":           {layers: []layer{{dir("./a/"), file("/a/b", "1"), file("././a//c", "1"), dir("/")}}, want: "a/; a/b=1; a/c=1"},
		"odd names":                 {layers: []layer{{file("a\nb", "1"), file("caf\xe9", "1"), file(" ", "1"), file(long, "1"), file("..a", "1"), file(".wh", "1")}}, want: " =1; ..a=1; .wh=1; a\nb=1; caf\xe9=1; " + long + "=1"},
		"deep":                      {layers: []layer{{file(deep+"/f", "1")}, {file(strings.TrimSuffix(deep, "/d")+"/.wh.d", "")}}, want: strings.Join(prefixes(strings.TrimSuffix(deep, "/d")), "; ")},
		"devices":                   {layers: []layer{{device("null", 1, 3), device("large", 4095, 1<<20-1), entry(tar.TypeFifo, "p", "")}}, want: "large; null; p"},
		// To overlayfs that is a whiteout, to a layer a device as any other.
		"device 0:0": {layers: []layer{{file("d/a", "1")}, {device("d/a", 0, 0)}}, want: "d/; d/a"},
		"setuid and capabilities": {
			layers: []layer{{with(file("a", "1"), func(h *tar.Header) {
				h.Mode, h.Uid = 0o6755, 1000
				h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": erofstest.Capability, "SCHILY.xattr.user.x": "\x00\n="}
			})}},
			want: "a=1",
		},
		"attribute of the overlay": {
			layers: []layer{{with(dir("a"), func(h *tar.Header) {
				h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/b"}
			})}},
			want: "a/",
			not:  "it would set what the guest's overlay acts on",
		},
		"directories of AUFS": {
			layers: []layer{{dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "1"), link("a", ".wh..wh.plnk/1.2"), link("b", ".wh..wh.plnk/1.2"), file(".wh..wh.aufs", ""), dir(".wh..wh.orph")}},
			want:   "a=1 =a; b=1 =a",
			not:    "names with the prefix .wh. are reserved, and it leaves them in the root",
		},
		"parent is a file": {
			layers: []layer{{file("a", "1")}, {file("a/b", "1")}},
			want:   "a/; a/b=1",
			not:    "it gives up, though the entry can only mean that",
		},
	} {
		t.Run(name, func(t *testing.T) {
			img := layers(t, c.layers...)
			got := imagetest.Flattened(t, img)
			var want []string
			if c.want != "" {
				want = strings.Split(c.want, "; ")
			}
			if lines := show(got); !slices.Equal(lines, want) {
				t.Errorf("got  %.500q\nwant %.500q", lines, want)
			}
			for _, f := range got {
				for attr := range f.Xattrs {
					if strings.HasPrefix(attr, "trusted.overlay.") {
						t.Errorf("%q has the attribute %s", f.Name, attr)
					}
				}
			}
			if c.not == "" {
				imagetest.EqualsUmoci(t, img)
			}
		})
	}
}

// prefixes are the directories that lead to a path, as show gives them.
func prefixes(name string) []string {
	var list []string
	for i, c := range name + "/" {
		if c == '/' {
			list = append(list, name[:i]+"/")
		}
	}
	return list
}

// Layers that GNU tar writes, sparse files among them, in all its formats.
func TestFlattenTars(t *testing.T) {
	src := t.TempDir()
	f, err := os.Create(filepath.Join(src, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{1 << 20, 20<<20 + 77, 40 << 20} {
		if _, err := f.WriteAt([]byte("abc"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, strings.Repeat("l", 200)), []byte("long"), 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := erofstest.FromDir(src)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args  []string
		umoci bool
	}{
		"PAX, sparse 0.0": {[]string{"--format=posix", "--sparse-version=0.0"}, true},
		"PAX, sparse 0.1": {[]string{"--format=posix", "--sparse-version=0.1"}, true},
		"PAX, sparse 1.0": {[]string{"--format=posix", "--sparse-version=1.0"}, true},
		"GNU":             {[]string{"--format=gnu"}, false}, // umoci does not know its sparse files
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "tar")
			args := append(c.args, "-S", "--hole-detection=raw", "--sort=name", "-C", src, "-cf", out, ".")
			if b, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
				t.Fatalf("tar: %v\n%s", err, b)
			}
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			img := imagetest.Image(t, imagetest.Gzip(t, data))
			got := imagetest.Flattened(t, img)
			for i := range got { // GNU's format has whole seconds
				got[i].ModTime = got[i].ModTime.Truncate(time.Second)
			}
			for i := range want {
				want[i].ModTime = want[i].ModTime.Truncate(time.Second)
			}
			if d := erofstest.Diff(want, got); d != "" {
				t.Errorf("another tree:\n%s", d)
			}
			if c.umoci {
				imagetest.EqualsUmoci(t, img)
			}
		})
	}
}
