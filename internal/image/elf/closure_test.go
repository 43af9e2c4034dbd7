package elf

import (
	"bytes"
	"debug/elf"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// resolveIn returns a closure as a map of guest path to "host path below the
// sysroot", "->target" or "data".
func resolveIn(t *testing.T, root, program string, opts Options) (map[string]string, *Closure, error) {
	t.Helper()
	opts.Sysroot = root
	c, err := Resolve(filepath.Join(root, program), opts)
	if err != nil {
		return nil, nil, err
	}
	got := map[string]string{}
	for _, e := range c.Entries {
		switch {
		case e.Target != "":
			got[e.Guest] = "->" + e.Target
		case e.Data != nil:
			got[e.Guest] = "data"
		default:
			got[e.Guest] = filepath.ToSlash(strings.TrimPrefix(e.Host, root))
		}
	}
	return got, c, nil
}

// same makes the usual expectation: files that keep their path.
func same(names ...string) map[string]string {
	m := map[string]string{}
	for _, n := range names {
		m[n] = n
	}
	return m
}

func with(m map[string]string, more map[string]string) map[string]string {
	maps.Copy(m, more)
	return m
}

func TestResolve(t *testing.T) {
	loader := fake{soname: "ld-linux-x86-64.so.2"}
	prog := func(needed ...string) fake { return fake{interp: loaderPath, needed: needed} }
	lib := func(needed ...string) fake { return fake{needed: needed} }
	tests := []struct {
		name  string
		files map[string]any
		guest string
		want  map[string]string
	}{
		{"static", map[string]any{"/p": fake{typ: elf.ET_EXEC, noDyn: true, entry: 1}}, "", same("/p")},
		{"static PIE", map[string]any{"/p": fake{flags: elf.DF_1_PIE}}, "", same("/p")},
		{"static elsewhere", map[string]any{"/p": fake{typ: elf.ET_EXEC, noDyn: true}}, "/usr/local/bin/q",
			map[string]string{"/usr/local/bin/q": "/p"}},
		{"transitive, chains of links", map[string]any{
			"/usr/bin/p":                 prog("liba.so.1"),
			"/lib":                       "->usr/lib",
			"/lib64":                     "->usr/lib64",
			"/usr/lib64/ld-2.so":         loader,
			"/usr/lib/liba.so.1":         "->liba.so.1.2",
			"/usr/lib/liba.so.1.2":       lib("libb.so", "ld-linux-x86-64.so.2"),
			"/usr/lib/unused.so":         lib(),
			"/usr/lib/x/libb.so":         lib("liba.so.1"),
			"/usr/lib/libb.so":           "->/usr/lib/x/libb.so",
			"/usr/lib64/" + ldName:       "->ld-2.so",
			"/usr/lib/x86_64-linux-gnu":  "->nowhere",
			"/usr/lib/aarch64-linux-gnu": "->nowhere",
		}, "", with(same("/usr/bin/p", "/usr/lib64/ld-2.so", "/usr/lib/liba.so.1.2", "/usr/lib/x/libb.so"), map[string]string{
			"/lib": "->usr/lib", "/lib64": "->usr/lib64", "/usr/lib64/" + ldName: "->ld-2.so",
			"/usr/lib/liba.so.1": "->liba.so.1.2", "/usr/lib/libb.so": "->/usr/lib/x/libb.so",
		})},
		{"ld.so.conf, nested and looping", map[string]any{
			"/p":                      prog("a.so", "b.so", "c.so"),
			loaderPath:                loader,
			"/etc/ld.so.conf":         "# x\ninclude ld.so.conf.d/*.conf\nhwcap 1 nosegneg\n/opt/a # y\n",
			"/etc/ld.so.conf.d/1.txt": "/opt/wrong\n",
			"/etc/ld.so.conf.d/1.conf": "include /etc/ld.so.conf\n/opt/b,/opt/c=libc6\n" +
				"include /nowhere/*\n",
			"/opt/a/a.so": lib(), "/opt/b/b.so": lib(), "/opt/c/c.so": lib(), "/opt/wrong/a.so": lib(),
		}, "", same("/p", loaderPath, "/opt/a/a.so", "/opt/b/b.so", "/opt/c/c.so")},
		{"RPATH is inherited, RUNPATH is not", map[string]any{
			"/p":       fake{interp: loaderPath, needed: []string{"a.so", "c.so"}, rpath: "/r"},
			loaderPath: loader,
			"/r/a.so":  lib("b.so"), "/r/b.so": lib(),
			"/r/c.so": fake{needed: []string{"d.so"}, runpath: "/s"},
			"/s/d.so": lib("e.so"), "/s/e.so": fake{soname: "wrong"}, "/lib/e.so": lib(), "/r/d.so": lib(),
			"/lib/a.so": lib(),
		}, "", same("/p", loaderPath, "/r/a.so", "/r/b.so", "/r/c.so", "/s/d.so", "/lib/e.so")},
		{"$ORIGIN, $LIB, $PLATFORM keep to the program", map[string]any{
			"/home/u/app/bin/p": fake{interp: loaderPath, needed: []string{"a.so", "b.so", "c.so"},
				runpath: "$ORIGIN/../deps:${ORIGIN}/../$LIB:/x/$PLATFORM:relative:"},
			loaderPath:                   loader,
			"/home/u/app/deps/a.so":      "->a.so.1",
			"/home/u/app/deps/a.so.1":    fake{needed: []string{"d.so"}, runpath: "$ORIGIN/more"},
			"/home/u/app/deps/more/d.so": lib(),
			"/home/u/app/lib64/b.so":     lib(),
			"/x/x86_64/c.so":             lib(),
		}, "/usr/local/bin/p", with(same(loaderPath, "/x/x86_64/c.so"), map[string]string{
			"/usr/local/bin/p":          "/home/u/app/bin/p",
			"/usr/local/deps/a.so":      "/home/u/app/deps/a.so.1",
			"/usr/local/deps/more/d.so": "/home/u/app/deps/more/d.so",
			"/usr/local/lib64/b.so":     "/home/u/app/lib64/b.so",
		})},
		{"other machines are passed over", map[string]any{
			"/p": prog("a.so"), loaderPath: loader,
			"/lib64/a.so": fake{machine: elf.EM_AARCH64}, "/lib/a.so": lib(), "/usr/lib64/a.so": fake{machine: elf.EM_386},
		}, "", same("/p", loaderPath, "/lib/a.so")},
		{"loaded under its soname", map[string]any{
			"/p": prog("a.so", "real.so"), loaderPath: loader, "/lib/a.so": fake{soname: "real.so"},
		}, "", same("/p", loaderPath, "/lib/a.so")},
		{"needed by path", map[string]any{
			"/p": prog("/opt/x/a.so"), loaderPath: loader, "/opt/x/a.so": lib(),
		}, "", same("/p", loaderPath, "/opt/x/a.so")},
		{"musl", map[string]any{
			"/p":                       fake{interp: "/lib/ld-musl-x86_64.so.1", needed: []string{"libc.musl-x86_64.so.1", "libm.so", "libz.so.1"}},
			"/lib/ld-musl-x86_64.so.1": "->libc.so",
			"/lib/libc.so":             lib(),
			"/etc/ld-musl-x86_64.path": "/opt/musl:/y\n",
			"/opt/musl/libz.so.1":      lib("libc.so"),
			"/lib/libz.so.1":           lib(),
		}, "", with(same("/p", "/lib/libc.so", "/opt/musl/libz.so.1"), map[string]string{"/lib/ld-musl-x86_64.so.1": "->libc.so"})},
		{"glibc's own needs", map[string]any{
			"/p": prog("libc.so.6"), loaderPath: loader, "/lib/libc.so.6": lib(ldName),
			"/lib/libnss_dns.so.2": lib("libresolv.so.2"), "/lib/libresolv.so.2": lib("libc.so.6"),
			"/usr/lib/locale/C.utf8/LC_CTYPE": "x", "/usr/lib/locale/C.utf8/LC_MESSAGES/M": "y",
			"/usr/lib/locale/C.utf8/LC_TIME": "->LC_CTYPE", "/usr/lib/locale/de/LC_CTYPE": "z",
		}, "", with(same("/p", loaderPath, "/lib/libc.so.6", "/lib/libnss_dns.so.2", "/lib/libresolv.so.2",
			"/usr/lib/locale/C.utf8/LC_CTYPE", "/usr/lib/locale/C.utf8/LC_MESSAGES/M"), map[string]string{
			"/usr/lib/locale/C.utf8/LC_TIME": "->LC_CTYPE", "/etc/nsswitch.conf": "data", "/etc/ld.so.cache": "data",
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			program := "/p"
			for _, p := range []string{"/usr/bin/p", "/home/u/app/bin/p"} {
				if tt.files[p] != nil {
					program = p
				}
			}
			got, c, err := resolveIn(t, makeRoot(t, tt.files), program, Options{Guest: tt.guest})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("\ngot  %v\nwant %v", got, tt.want)
			}
			want := program
			if tt.guest != "" {
				want = tt.guest
			}
			if c.Arch != "amd64" || c.Program != want {
				t.Errorf("arch %s, program %s", c.Arch, c.Program)
			}
		})
	}
}

const ldName = "ld-linux-x86-64.so.2"

func TestResolveProgramByLink(t *testing.T) {
	root := makeRoot(t, map[string]any{
		"/usr/bin/p": "->/etc/alternatives/p", "/etc/alternatives/p": "->../../opt/p",
		"/opt/p": fake{machine: elf.EM_AARCH64, flags: elf.DF_1_PIE},
	})
	got, c, err := resolveIn(t, root, "/usr/bin/p", Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"/usr/bin/p": "->/etc/alternatives/p", "/etc/alternatives/p": "->../../opt/p", "/opt/p": "/opt/p"}
	if !reflect.DeepEqual(got, want) || c.Program != "/usr/bin/p" || c.Arch != "arm64" {
		t.Errorf("got %v, %s, %s", got, c.Program, c.Arch)
	}
}

func TestResolveMistakes(t *testing.T) {
	loader := fake{soname: ldName}
	whole := makeELF(t, fake{interp: loaderPath, needed: []string{"liba.so"}})
	tests := []struct {
		name  string
		files map[string]any
		want  string
	}{
		{"absent", nil, "reading ROOT/p: no such file or directory"},
		{"directory", map[string]any{"/p/x": ""}, "reading ROOT/p: a directory, not a program"},
		{"empty", map[string]any{"/p": ""}, "reading ROOT/p: not an ELF file: it is empty"},
		{"text", map[string]any{"/p": "hello"}, "reading ROOT/p: not an ELF file"},
		{"script", map[string]any{"/p": "#! /usr/bin/env python3\nprint()\n"},
			"ROOT/p is a script for /usr/bin/env python3, not a program"},
		{"library", map[string]any{"/p": fake{needed: []string{"libc.so.6"}, entry: 0}}, "reading ROOT/p: a shared library, not a program"},
		{"object file", map[string]any{"/p": fake{typ: elf.ET_REL}}, "reading ROOT/p: an object file, not a program: it is not linked yet"},
		{"core", map[string]any{"/p": fake{typ: elf.ET_CORE}}, "reading ROOT/p: a core dump, not a program"},
		{"i386", map[string]any{"/p": "\x7fELF\x01\x01\x01" + strings.Repeat("\x00", 60)}, "reading ROOT/p: a 32-bit ELF file: only 64-bit amd64 and arm64 programs can run"},
		{"big endian", map[string]any{"/p": "\x7fELF\x02\x02\x01" + strings.Repeat("\x00", 60)}, "reading ROOT/p: a big-endian ELF file: only amd64 and arm64 programs can run"},
		{"riscv", map[string]any{"/p": fake{machine: elf.EM_RISCV}}, "reading ROOT/p: for the architecture EM_RISCV: only amd64 and arm64 programs can run"},
		{"truncated header", map[string]any{"/p": string(whole[:40])}, "reading ROOT/p: truncated: it refers to data beyond its own end"},
		{"truncated", map[string]any{"/p": string(whole[:len(whole)-1])}, "reading ROOT/p: truncated: it refers to data beyond its own end"},
		{"no loader", map[string]any{"/p": fake{interp: loaderPath}},
			"the loader /lib64/ld-linux-x86-64.so.2, needed by ROOT/p, does not exist"},
		{"wrong loader", map[string]any{"/p": fake{interp: loaderPath}, loaderPath: fake{machine: elf.EM_AARCH64}},
			"the loader ROOT/lib64/ld-linux-x86-64.so.2 is for arm64, but ROOT/p is for amd64"},
		{"no library", map[string]any{"/p": fake{interp: loaderPath, needed: []string{"liba.so"}, runpath: "$ORIGIN/x"}, loaderPath: loader,
			"/lib/liba.so": fake{needed: []string{"libb.so.3"}}},
			"shared library libb.so.3, needed by ROOT/lib/liba.so, is not in ROOT/lib/x86_64-linux-gnu, ROOT/usr/lib/x86_64-linux-gnu, ROOT/lib64, ROOT/usr/lib64, ROOT/lib, ROOT/usr/lib"},
		{"bad library", map[string]any{"/p": fake{interp: loaderPath, needed: []string{"liba.so"}}, loaderPath: loader, "/lib/liba.so": "/* GNU ld script */"},
			"reading ROOT/lib/liba.so, needed by ROOT/p: not an ELF file"},
		{"loop of links", map[string]any{"/p": "->q", "/q": "->p"}, "reading ROOT/p: /p: too many symbolic links"},
		{"name outside", map[string]any{"/p": fake{interp: loaderPath, needed: []string{"a"}, unloaded: true}}, "reading ROOT/p: a malformed ELF file: a name lies outside its segments"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := makeRoot(t, tt.files)
			_, _, err := resolveIn(t, root, "/p", Options{})
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(filepath.ToSlash(err.Error()), filepath.ToSlash(root), "ROOT"); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestErrorKinds(t *testing.T) {
	root := makeRoot(t, map[string]any{
		"/text": "x", "/script": "#!/bin/sh\n",
		"/p": fake{interp: loaderPath, needed: []string{"a.so"}}, loaderPath: fake{},
	})
	_, _, err := resolveIn(t, root, "/absent", Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, _, err = resolveIn(t, root, "/text", Options{}); !errors.Is(err, ErrNotELF) {
		t.Errorf("text: %v", err)
	}
	var script *ScriptError
	if _, _, err = resolveIn(t, root, "/script", Options{}); !errors.As(err, &script) || script.Interpreter != "/bin/sh" || script.Hint() == "" {
		t.Errorf("script: %v", err)
	}
	var missing *MissingError
	if _, _, err = resolveIn(t, root, "/p", Options{}); !errors.As(err, &missing) || missing.Library != "a.so" || missing.Hint() == "" {
		t.Errorf("missing: %v", err)
	}
}

func TestCompareSonames(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"libc.so.6", "libc.so.6", 0}, {"libc.so.6", "libc.so.10", -1}, {"liba.so", "libb.so", -1},
		{"lib1.so", "liba.so", 1}, {"liba", "lib9", -1}, {"liba.so.1", "liba.so", 1},
	} {
		if got := compareSonames(tt.a, tt.b); got != tt.want {
			t.Errorf("%s, %s: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(makeELF(f, fake{interp: loaderPath, needed: []string{"a.so", "b.so"}, soname: "s", rpath: "a:b", runpath: "$ORIGIN"}))
	f.Add(makeELF(f, fake{typ: elf.ET_EXEC, noDyn: true}))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Parse(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if o.Arch != "amd64" && o.Arch != "arm64" {
			t.Errorf("arch %q", o.Arch)
		}
		for _, n := range o.Needed {
			if n == "" || strings.Contains(n, "\x00") {
				t.Errorf("needed %q", n)
			}
		}
	})
}
