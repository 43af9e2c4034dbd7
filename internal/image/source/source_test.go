package source

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"capstan/internal/capstanfile"
)

var day = time.Date(2024, 5, 17, 12, 0, 0, 123456789, time.UTC)

// write makes files below dir. A name that ends in "/" is a directory; a text
// that begins with "->" is the target of a symbolic link. All have the time
// day, and the modes 0755 and 0644.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text, host := files[name], filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(host), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch target, link := strings.CutPrefix(text, "->"); {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(host, 0o755)
		case link:
			err = os.Symlink(target, host)
		default:
			err = os.WriteFile(host, []byte(text), 0o644)
			if err == nil {
				err = os.Chtimes(host, day, day)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// entryLine shows a tar entry: type, mode, owner where it is not 0:0, name,
// link or content.
func entryLine(h *tar.Header, content string) string {
	s := fmt.Sprintf("%c %04o ", h.Typeflag, h.Mode)
	if h.Uid != 0 || h.Gid != 0 {
		s += fmt.Sprintf("%d:%d ", h.Uid, h.Gid)
	}
	s += h.Name
	switch {
	case h.Linkname != "":
		s += " -> " + h.Linkname
	case h.Typeflag == tar.TypeReg:
		s += " = " + content
	case h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock:
		s += fmt.Sprintf(" %d:%d", h.Devmajor, h.Devminor)
	}
	return s
}

// entries reads a tar to its end.
func entries(t testing.TB, data []byte) (lines []string, headers map[string]*tar.Header) {
	t.Helper()
	headers = map[string]*tar.Header{}
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return lines, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uname != "" || h.Gname != "" || h.ModTime.Nanosecond() != 0 {
			t.Errorf("%s: user %q, group %q, time %v", h.Name, h.Uname, h.Gname, h.ModTime)
		}
		lines = append(lines, entryLine(h, string(content)))
		headers[strings.TrimSuffix(h.Name, "/")] = h
	}
}

func tarOf(t testing.TB, l *Layer) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := l.WriteTar(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func parse(t testing.TB, text string) *capstanfile.File {
	t.Helper()
	f, err := capstanfile.Parse("Capstanfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// plan plans a Capstanfile that would be in dir.
func plan(t testing.TB, dir, text string, opts Options) *Layer {
	t.Helper()
	l, err := FromCapstanfile(context.Background(), dir, parse(t, text), opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fakeBase is a base whose files are its keys: a text that begins with "->"
// is the target of a link, "dir" a directory.
type fakeBase map[string]string

func (b fakeBase) Lookup(path string) (fs.FileMode, string, bool) {
	text, ok := b[path]
	if target, link := strings.CutPrefix(text, "->"); link {
		return fs.ModeSymlink, target, ok
	}
	if text == "dir" {
		return fs.ModeDir, "", ok
	}
	return 0, "", ok
}

func TestFromCapstanfile(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		text  string
		base  Base
		want  []string
	}{
		{"old", map[string]string{"build/app.jar": "jar", "hello.so": "hello", "ROOTFS/etc/a": "a", "ROOTFS/tools/hello.so": "old"}, `
base: x
files:
  /tools/hello.so: hello.so
  /usr/app/app.jar: build/&
`, nil, []string{
			"5 0755 etc/", "0 0644 etc/a = a", "5 0755 tools/", "0 0644 tools/hello.so = hello",
			"5 0755 usr/", "5 0755 usr/app/", "0 0644 usr/app/app.jar = jar",
		}},
		{"no rootfs", map[string]string{"a": "1"}, "base: x\nfiles: {/a: a}\n", nil, []string{"0 0644 a = 1"}},
		{"named rootfs, links kept", map[string]string{
			"tree/etc/passwd": "p", "tree/out": "->../../../etc/passwd", "tree/abs": "->/etc/shadow", "tree/dangling": "->nowhere",
			"ROOTFS/no": "", "tree/empty/": "", "tree/dir": "->etc",
		}, "base: x\nrootfs: tree\n", nil, []string{
			"2 0777 abs -> /etc/shadow", "2 0777 dangling -> nowhere", "2 0777 dir -> etc", "5 0755 empty/",
			"5 0755 etc/", "0 0644 etc/passwd = p", "2 0777 out -> ../../../etc/passwd",
		}},
		{"directories and into", map[string]string{"site/a": "a", "site/s/b": "b", "tool": "t"}, `
base: x
files:
  /srv: site
  /www/: site/s
  /usr/local/bin/: tool
`, nil, []string{
			"5 0755 srv/", "0 0644 srv/a = a", "5 0755 srv/s/", "0 0644 srv/s/b = b",
			"5 0755 usr/", "5 0755 usr/local/", "5 0755 usr/local/bin/", "0 0644 usr/local/bin/tool = t",
			"5 0755 www/", "0 0644 www/b = b",
		}},
		{"globs", map[string]string{"c/a.conf": "a", "c/b.conf": "b", "c/x": "x", "js/1.js": "1", "js/d/e/2.js": "2", "js/d/3.ts": "3", "lit[1]": "l"}, `
base: x
files:
  /etc/app: c/*.conf
  /js: js/**/*.js
  /lit: "lit[1]"
`, nil, []string{
			"5 0755 etc/", "5 0755 etc/app/", "0 0644 etc/app/a.conf = a", "0 0644 etc/app/b.conf = b",
			"5 0755 js/", "0 0644 js/1.js = 1", "5 0755 js/d/", "5 0755 js/d/e/", "0 0644 js/d/e/2.js = 2", "0 0644 lit = l",
		}},
		{"glob of directories", map[string]string{"m/a/x": "1", "m/b/y": "2", "m/b/z/w": "3"}, "base: x\nfiles: {/m: 'm/*'}\n", nil, []string{
			"5 0755 m/", "5 0755 m/a/", "0 0644 m/a/x = 1", "5 0755 m/b/", "0 0644 m/b/y = 2", "5 0755 m/b/z/", "0 0644 m/b/z/w = 3",
		}},
		{"later ones win", map[string]string{"a": "1", "d/f": "3", "r/x": "0"}, "base: x\nrootfs: r\nfiles: {/d: d, /d/f: a, /x: a}\n", nil,
			[]string{"5 0755 d/", "0 0644 d/f = 1", "0 0644 x = 1"}},
		{"later ones win, a directory", map[string]string{"a": "1", "d/f": "3"}, "base: x\nfiles: {/d/f: a, /d: d}\n", nil,
			[]string{"5 0755 d/", "0 0644 d/f = 3"}},
		{"ignored", map[string]string{
			"ROOTFS/keep": "k", "ROOTFS/a.o": "", "ROOTFS/sub/b.o": "", "ROOTFS/tmp/x": "", "ROOTFS/.git/config": "c",
			"app/a.o": "", "app/main": "m", "one.o": "o", ".git/x": "",
			capstanfile.IgnoreName: "/**/*.o\n/ROOTFS/tmp/*\n",
		}, "base: x\nfiles: {/app: app, /one: one.o}\n", nil, []string{
			"5 0755 .git/", "0 0644 .git/config = c", "5 0755 app/", "0 0644 app/main = m", "0 0644 keep = k", "0 0644 one = o", "5 0755 sub/", "5 0755 tmp/",
		}},
		{"the whole build directory", map[string]string{"main": "m", ".git/x": "", "volumes/v": "", "Capstanfile": "c"},
			"base: x\nfiles: {/app: .}\n", nil, []string{"5 0755 app/", "0 0644 app/Capstanfile = c", "0 0644 app/main = m"}},
		{"input by a link that stays inside", map[string]string{"real/x": "x", "l": "->real", "f": "->real/x"},
			"base: x\nrootfs: l\nfiles: {/f: f}\n", nil, []string{"0 0644 f = x", "0 0644 x = x"}},
		{"links in the way", map[string]string{"ROOTFS/lib": "->usr/lib", "ROOTFS/usr/lib/": "", "ROOTFS/etc/l": "->../lib", "so": "s", "d/y": "y"},
			"base: x\nfiles: {/lib/x.so: so, /etc/l/z.so: so, /lib: d}\n", nil, []string{
				"5 0755 etc/", "2 0777 etc/l -> ../lib", "2 0777 lib -> usr/lib", "5 0755 usr/", "5 0755 usr/lib/",
				"0 0644 usr/lib/x.so = s", "0 0644 usr/lib/y = y", "0 0644 usr/lib/z.so = s",
			}},
		{"a base's directories and links stay", map[string]string{"ROOTFS/tmp/x": "x", "ROOTFS/lib/y": "y", "ROOTFS/new/z": "z", "ROOTFS/etc/localtime": "u"},
			"base: x\n", fakeBase{"/tmp": "dir", "/lib": "->usr/lib", "/usr": "dir", "/usr/lib": "dir", "/etc": "dir", "/etc/localtime": "->/usr/share/zoneinfo/UTC"}, []string{
				"0 0644 etc/localtime = u", "5 0755 new/", "0 0644 new/z = z", "0 0644 tmp/x = x", "0 0644 usr/lib/y = y",
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tt.files)
			l := plan(t, dir, tt.text, Options{Base: tt.base})
			got, headers := entries(t, tarOf(t, l))
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("\ngot  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
			}
			for name, h := range headers {
				want := day.Truncate(time.Second)
				if h.Typeflag == tar.TypeDir {
					want = time.Unix(0, 0)
				}
				if h.Typeflag != tar.TypeSymlink && !h.ModTime.Equal(want) {
					t.Errorf("%s: time %v, want %v", name, h.ModTime, want)
				}
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, map[string]string{"secret": "s"})
	tests := []struct {
		name  string
		files map[string]string
		text  string
		base  Base
		want  string
	}{
		{"absent file", nil, "base: x\nfiles:\n  /a: nowhere\n", nil, "Capstanfile:3: files /a: nowhere does not exist"},
		{"absent rootfs", nil, "base: x\nrootfs: tree\n", nil, "Capstanfile:2: rootfs: tree does not exist"},
		{"several", map[string]string{"tree": "file"}, "base: x\nfiles:\n  /a: a\n  /b: b*\nrootfs: tree\n", nil,
			"Capstanfile:3: files /a: a does not exist\nCapstanfile:4: files /b: b* matches nothing\nCapstanfile:5: rootfs: tree is not a directory"},
		{"default rootfs is a file", map[string]string{"ROOTFS": ""}, "base: x\n", nil, "Capstanfile: rootfs: ROOTFS is not a directory"},
		{"bad pattern", nil, "base: x\nfiles: {/a: 'b[c'}\n", nil, "Capstanfile:2: files /a: b[c is not a valid pattern"},
		{"link out", map[string]string{"l": "->" + outside + "/secret"}, "base: x\nfiles: {/a: l}\n", nil,
			"Capstanfile:2: files /a: l leads out of the build directory by a symbolic link"},
		{"relative link out", map[string]string{"l": "->../../etc/passwd"}, "base: x\nfiles: {/a: l}\n", nil,
			"Capstanfile:2: files /a: l leads out of the build directory by a symbolic link"},
		{"directory out", map[string]string{"d": "->" + outside}, "base: x\nfiles: {/a: d}\n", nil,
			"Capstanfile:2: files /a: d leads out of the build directory by a symbolic link"},
		{"below a directory out", map[string]string{"d": "->" + outside}, "base: x\nfiles: {/a: d/secret}\n", nil,
			"Capstanfile:2: files /a: d/secret leads out of the build directory by a symbolic link"},
		{"rootfs out", map[string]string{"ROOTFS": "->" + outside}, "base: x\n", nil,
			"Capstanfile: rootfs: ROOTFS leads out of the build directory by a symbolic link"},
		{"glob out", map[string]string{"d": "->" + outside}, "base: x\nfiles: {/a: 'd/s*'}\n", nil,
			"Capstanfile:2: files /a: d/s* leads out of the build directory by a symbolic link"},
		{"file on directory", map[string]string{"ROOTFS/a/x": "", "f": ""}, "base: x\nfiles: {/a: f}\n", nil,
			"Capstanfile:2: files /a: /a is a directory in rootfs, and no directory in files /a"},
		{"directory on file", map[string]string{"ROOTFS/a": "", "d/": ""}, "base: x\nfiles: {/a: d}\n", nil,
			"Capstanfile:2: files /a: /a is a file in rootfs, not a directory, as it is in files /a"},
		{"below a file", map[string]string{"ROOTFS/a": "", "f": ""}, "base: x\nfiles: {/a/b: f}\n", nil,
			"Capstanfile:2: files /a/b: /a is a file in rootfs, not a directory"},
		{"on the base's directory", map[string]string{"f": ""}, "base: x\nfiles: {/a: f}\n", fakeBase{"/a": "dir"},
			"Capstanfile:2: files /a: /a is a directory in the base, and no directory in files /a"},
		{"loop of links", map[string]string{"ROOTFS/a": "->b", "ROOTFS/b": "->a", "f": ""}, "base: x\nfiles: {/a/x: f}\n", nil,
			"Capstanfile:2: files /a/x: /a: too many symbolic links"},
		{"file on the root", map[string]string{"f": ""}, "base: x\nfiles: {/: f}\n", nil, ""},
		{"deletion", map[string]string{"ROOTFS/etc/.wh.passwd": ""}, "base: x\n", nil,
			`Capstanfile: rootfs: /etc/.wh.passwd: names that begin with ".wh." mean deletions in a layer`},
		{"bad ignore", map[string]string{capstanfile.IgnoreName: "\n/meta\n"}, "base: x\n", nil,
			"DIR/.capstanignore:2: /meta: the directory itself cannot be ignored, because Capstan reads the package's own description in it; what is in it never goes into an image anyway, so remove this line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tt.files)
			l, err := FromCapstanfile(context.Background(), dir, parse(t, tt.text), Options{Base: tt.base})
			if tt.want == "" { // "/" is a directory to put things into
				got, _ := entries(t, tarOf(t, l))
				if !reflect.DeepEqual(got, []string{"0 0644 f = "}) {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(err.Error(), filepath.ToSlash(dir), "DIR"); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFromDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"bin/a": "a", ".git/x": "", "meta/package.yaml": "", "volumes/v": "", "etc/volumes/v": "v",
		capstanfile.IgnoreName: "/skip\n", "skip/x": "",
	})
	var notes []string
	l, err := FromDirectory(context.Background(), dir, Options{Notes: func(s string) { notes = append(notes, s) }})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := entries(t, tarOf(t, l))
	want := []string{"5 0755 bin/", "0 0644 bin/a = a", "5 0755 etc/", "5 0755 etc/volumes/", "0 0644 etc/volumes/v = v", "5 0755 meta/"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if want := []string{"meta/package.yaml is left out, as it always is", "volumes is left out, as it always is"}; !reflect.DeepEqual(notes, want) {
		t.Errorf("notes %q", notes)
	}
}

func TestSameInputsSameBytes(t *testing.T) {
	files := map[string]string{"ROOTFS/a": "1", "ROOTFS/d/b": "2", "ROOTFS/d/c": "->b", "ROOTFS/ä" + strings.Repeat("x", 150): "long", "z": "3"}
	const text = "base: x\nfiles: {/z: z}\n"
	one, two := t.TempDir(), t.TempDir()
	write(t, one, files)
	write(t, two, files)
	link := time.Unix(1700000000, 0)
	for _, dir := range []string{one, two} {
		// The time of a link can only be set by its own call.
		if err := chtimesLink(filepath.Join(dir, "ROOTFS/d/c"), link); err != nil {
			t.Fatal(err)
		}
	}
	a := tarOf(t, plan(t, one, text, Options{}))
	for _, dir := range []string{one, two} {
		if b := tarOf(t, plan(t, dir, text, Options{})); !bytes.Equal(a, b) {
			t.Errorf("%s gives other bytes", dir)
		}
	}
}
