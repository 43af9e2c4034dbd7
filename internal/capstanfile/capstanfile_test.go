package capstanfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, text string
		want       File
	}{
		{"old", `
base: cloudius/osv-base

cmdline: /tools/hello.so

build: make

files:
  /tools/hello.so: hello.so
  /usr/app/app.jar: build/&
  /usr/app/two: '&/&.bin'
`, File{
			Base: "cloudius/osv-base", Cmdline: []string{"/tools/hello.so"}, CmdlineText: "/tools/hello.so", Build: "make",
			Files: []Copy{
				{Guest: "/tools/hello.so", Host: "hello.so", Line: 9},
				{Guest: "/usr/app/app.jar", Host: "build/app.jar", Line: 10},
				{Guest: "/usr/app/two", Host: "two/two.bin", Line: 11},
			},
		}},
		{"all new keys", `
cmdline: [/srv/app, "a b", 8080]
rootfs: ./tree/
env:
  A: 1
  B: "x=y z"
  C: ""
workdir: /srv/
user: 1000:1000
expose: [8080, 53/udp, "8000-8010"]
volumes: /data
memory: 512M
cpus: 2
labels: {org.example.a: "yes", b: no}
arch: arm64
`, File{
			Cmdline: []string{"/srv/app", "a b", "8080"}, Rootfs: "tree",
			Env: []string{"A=1", "B=x=y z", "C="}, Workdir: "/srv", User: "1000:1000",
			Expose:  []PortRange{{8080, 8080, "tcp"}, {53, 53, "udp"}, {8000, 8010, "tcp"}},
			Volumes: []string{"/data"}, Memory: 512 << 20, CPUs: 2,
			Labels: map[string]string{"org.example.a": "yes", "b": "no"}, Arch: "arm64",
		}},
		{"env as list", "base: x\nenv: [A=1, B=]\n", File{Base: "x", Env: []string{"A=1", "B="}}},
		{"empty sections", "base: x\nenv:\nfiles:\nexpose:\n", File{Base: "x"}},
		{"into a directory", "base: x\nfiles:\n  /etc/app/: conf/*.conf\n",
			File{Base: "x", Files: []Copy{{Guest: "/etc/app", Into: true, Host: "conf/*.conf", Line: 3}}}},
		{"cmdline with quotes", "cmdline: /bin/sh -c 'echo \"$HOME\"; true'\n",
			File{Cmdline: []string{"/bin/sh", "-c", `echo "$HOME"; true`}, CmdlineText: `/bin/sh -c 'echo "$HOME"; true'`}},
		{"windows line ends", "base: x\r\nmemory: 1G\r\n", File{Base: "x", Memory: 1 << 30}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse("Capstanfile", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Name, tt.want.Raw, tt.want.lines = got.Name, []byte(tt.text), got.lines
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", *got, tt.want)
			}
		})
	}
}

func TestParseMistakes(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `Capstanfile:1: the file is empty (expected keys such as "cmdline: /hello")`},
		{"# nothing\n", `Capstanfile:1: the file is empty (expected keys such as "cmdline: /hello")`},
		{"null\n", `Capstanfile:1: the file is empty (expected keys such as "cmdline: /hello")`},
		{"hello\n", `Capstanfile:1: found "hello" (expected keys such as "cmdline: /hello")`},
		{"[a]\n", `Capstanfile:1: found a list (expected keys such as "cmdline: /hello")`},
		{"FROM debian\nCMD x\n", `Capstanfile:1: found "FROM debian CMD x" (expected keys such as "cmdline: /hello")`},
		{"build: make\n", `Capstanfile:1: cmdline is missing, and there is no base to bring a command (expected "cmdline: /path/to/program" or "base: IMAGE")`},
		{"base: x\n---\nbase: y\n", `Capstanfile:2: a second document begins (expected one document)`},
		{"base: x\nbase: y\n", `Capstanfile:2: base: given twice, first on line 1`},
		{"base: x\nmemroy: 1G\n", `Capstanfile:2: memroy: unknown key (did you mean "memory"?)`},
		{"base: x\nMemory: 1G\n", `Capstanfile:2: Memory: unknown key (did you mean "memory"?)`},
		{"base: x\nworkdri: /\n", `Capstanfile:2: workdri: unknown key (did you mean "workdir"?)`},
		{"base: x\nports: 80\n", `Capstanfile:2: ports: unknown key (did you mean "expose"?)`},
		{"base: x\nentrypoint: 80\n", `Capstanfile:2: entrypoint: unknown key (did you mean "cmdline"?)`},
		{"base: x\nzzz: 80\n", `Capstanfile:2: zzz: unknown key (expected one of arch, base, build, cmdline, cpus, env, expose, files, labels, memory, rootfs, user, volumes, workdir)`},
		{"base: x\n\"a\\nb\": 80\n", `Capstanfile:2: "a\nb": unknown key (expected one of arch, base, build, cmdline, cpus, env, expose, files, labels, memory, rootfs, user, volumes, workdir)`},
		{"rpm-base:\n  name: x\ncmdline: x\n", `Capstanfile:1: rpm-base: no longer supported: name an image as base, or unpack the package into the rootfs directory (rpm2cpio NAME.rpm | cpio -idm)`},
		{"base: x\n<<: {a: b}\n", `Capstanfile:2: <<: merge keys are not supported`},
		{"base:\n", `Capstanfile:1: base: has no value (expected an image name such as debian:12)`},
		{"base: [a]\n", `Capstanfile:1: base: found a list (expected an image name such as debian:12)`},
		{"base: a b\n", `Capstanfile:1: base: "a b" has blanks in it (expected an image name such as debian:12)`},
		{"base: x\ncmdline: ''\n", `Capstanfile:2: cmdline: is empty (expected a command line, or a list of words)`},
		{"base: x\ncmdline: []\n", `Capstanfile:2: cmdline: names no program (expected a command line, or a list of words)`},
		{"base: x\ncmdline: '\"\" a'\n", `Capstanfile:2: cmdline: names no program (expected a command line, or a list of words)`},
		{"base: x\ncmdline: {a: b}\n", `Capstanfile:2: cmdline: found a map (expected a command line, or a list of words)`},
		{"cmdline: a 'b\n", `Capstanfile:1: cmdline: a ' is never closed`},
		{"cmdline: a; b\n", `Capstanfile:1: cmdline: ';' is for a shell, and there is none in the guest: quote it, or write a list such as ["/bin/sh", "-c", "…"]`},
		{"base: x\ncmdline: [a, [b]]\n", `Capstanfile:2: cmdline: found a list (expected a word)`},
		{"base: x\nfiles: a\n", `Capstanfile:2: files: found "a" (expected a map of guest path to host path)`},
		{"base: x\nfiles: [a]\n", `Capstanfile:2: files: found a list (expected a map of guest path to host path)`},
		{"base: x\nfiles:\n  a: b\n", `Capstanfile:3: files a: "a" is not absolute (expected an absolute guest path; did you mean "/a"?)`},
		{"base: x\nfiles:\n  /a/../b: b\n", `Capstanfile:3: files /a/../b: ".." is not allowed in a guest path (expected an absolute guest path)`},
		{"base: x\nfiles:\n  /a/.wh.b: b\n", `Capstanfile:3: files /a/.wh.b: names that begin with ".wh." mean deletions in a layer (expected an absolute guest path)`},
		{"base: x\nfiles:\n  /a: b\n  /a: c\n", `Capstanfile:4: files /a: given twice, first on line 3`},
		{"base: x\nfiles:\n  /a: /etc/passwd\n", `Capstanfile:3: files /a: "/etc/passwd" is an absolute path (expected a path relative to the Capstanfile's directory, such as build/&)`},
		{"base: x\nfiles:\n  /a: 'C:\\x'\n", `Capstanfile:3: files /a: "C:\\x" is an absolute path (expected a path relative to the Capstanfile's directory, such as build/&)`},
		{"base: x\nfiles:\n  /a: ../b\n", `Capstanfile:3: files /a: "../b" leads out of the Capstanfile's directory (expected a path relative to the Capstanfile's directory, such as build/&)`},
		{"base: x\nfiles:\n  /a: 'b\\..\\..\\c'\n", `Capstanfile:3: files /a: "b\\..\\..\\c" leads out of the Capstanfile's directory (expected a path relative to the Capstanfile's directory, such as build/&)`},
		{"base: x\nfiles:\n  /a: b/*/../c\n", `Capstanfile:3: files /a: "b/*/../c" leads out of the Capstanfile's directory (expected a path relative to the Capstanfile's directory, such as build/&)`},
		{"base: x\nfiles:\n  /a: ~/b\n", `Capstanfile:3: files /a: "~/b": "~" is not expanded (expected a path relative to the Capstanfile's directory, such as build/&)`},
		{"base: x\nfiles:\n  /a: {b: c}\n", `Capstanfile:3: files /a: found a map (expected a path relative to the Capstanfile's directory, such as build/&)`},
		{"base: x\nfiles:\n  /a: &\n", `Capstanfile:3: not valid YAML: did not find expected alphabetic or numeric character (expected a value that begins with & in quotes, such as "&")`},
		{"base: x\nfiles:\n  /a: &b\n", `Capstanfile:3: files /a: a value that begins with & must be in quotes (expected "&b")`},
		{"base: &b x\nbuild: *b\n", "Capstanfile:1: base: a value that begins with & must be in quotes (expected \"&b\")\nCapstanfile:2: build: aliases (*name) are not supported (expected a shell command such as make)"},
		{"base: x\nenv: *b\n", `Capstanfile:1: not valid YAML: unknown anchor 'b' referenced`},
		{"base: x\nrootfs: ..\n", `Capstanfile:2: rootfs: ".." leads out of the Capstanfile's directory (expected a directory below the Capstanfile's)`},
		{"base: x\nenv: [A]\n", `Capstanfile:2: env: found "A" (expected NAME=value)`},
		{"base: x\nenv: [=A]\n", `Capstanfile:2: env: found "=A" (expected NAME=value)`},
		{"base: x\nenv: [A=1, A=2]\n", `Capstanfile:2: env A: given twice, first on line 2`},
		{"base: x\nenv:\n  A: 1\n  A: 2\n", `Capstanfile:4: env A: given twice, first on line 3`},
		{"base: x\nenv:\n  A:\n", `Capstanfile:3: env A: has no value (expected a value ("" for an empty one))`},
		{"base: x\nenv:\n  A: [1]\n", `Capstanfile:3: env A: found a list (expected a value ("" for an empty one))`},
		{"base: x\nenv:\n  A=B: 1\n", `Capstanfile:3: env A=B: a name must not contain =`},
		{"base: x\nenv: {A: \"x\\0y\"}\n", `Capstanfile:2: env A: contains a NUL byte (expected a value ("" for an empty one))`},
		{"base: x\nworkdir: srv\n", `Capstanfile:2: workdir: "srv" is not absolute (expected an absolute guest path; did you mean "/srv"?)`},
		{"base: x\nuser: 'a:b:c'\n", `Capstanfile:2: user: found "a:b:c" (expected user or user:group, as names or numbers)`},
		{"base: x\nexpose: 0\n", `Capstanfile:2: expose: found "0" (expected a port such as 8080, 53/udp or 8000-8010)`},
		{"base: x\nexpose: 65536\n", `Capstanfile:2: expose: found "65536" (expected a port such as 8080, 53/udp or 8000-8010)`},
		{"base: x\nexpose: 90-80\n", `Capstanfile:2: expose: found "90-80" (expected a port such as 8080, 53/udp or 8000-8010)`},
		{"base: x\nexpose: 80/icmp\n", `Capstanfile:2: expose: found "80/icmp" (expected a port such as 8080, 53/udp or 8000-8010)`},
		{"base: x\nexpose: 80:81\n", `Capstanfile:2: expose: "80:81" names a host port, which is for capstan run -p (expected a port such as 8080, 53/udp or 8000-8010)`},
		{"base: x\nexpose: [80, 80/tcp]\n", `Capstanfile:2: expose: 80/tcp is given twice`},
		{"base: x\nvolumes: [data]\n", `Capstanfile:2: volumes: "data" is not absolute (expected an absolute guest path; did you mean "/data"?)`},
		{"base: x\nvolumes: [/]\n", `Capstanfile:2: volumes: the root itself cannot be a volume (expected an absolute guest path such as /data)`},
		{"base: x\nvolumes: [/a, /a/]\n", `Capstanfile:2: volumes: /a is given twice`},
		{"base: x\nvolumes: ['./a:/a']\n", `Capstanfile:2: volumes: "./a:/a" names what to mount, which is for capstan run -v (expected an absolute guest path such as /data)`},
		{"base: x\nmemory: 512\n", `Capstanfile:2: memory: "512" has no unit (expected a size with its unit, such as 512M or 1G)`},
		{"base: x\nmemory: 0M\n", `Capstanfile:2: memory: "0M" is out of range (expected a size with its unit, such as 512M or 1G)`},
		{"base: x\nmemory: 999999999999G\n", `Capstanfile:2: memory: "999999999999G" is out of range (expected a size with its unit, such as 512M or 1G)`},
		{"base: x\nmemory: 5K\n", `Capstanfile:2: memory: "5K" has the unknown unit "K" (expected a size with its unit, such as 512M or 1G)`},
		{"base: x\nmemory: -5M\n", `Capstanfile:2: memory: found "-5M" (expected a size with its unit, such as 512M or 1G)`},
		{"base: x\ncpus: 0\n", `Capstanfile:2: cpus: found "0" (expected a whole number, 1 or more)`},
		{"base: x\ncpus: 1.5\n", `Capstanfile:2: cpus: found "1.5" (expected a whole number, 1 or more)`},
		{"base: x\nlabels: [a]\n", `Capstanfile:2: labels: found "a" (expected NAME=value)`},
		{"base: x\narch: x86_64\n", `Capstanfile:2: arch: found "x86_64" (expected amd64 or arm64; did you mean "amd64"?)`},
		{"base: x\narch: mips\n", `Capstanfile:2: arch: found "mips" (expected amd64 or arm64)`},
		{"base: x\n\tenv: a\n", `Capstanfile:2: not valid YAML: found a tab character that violates indentation (expected spaces, not a tab, before a key)`},
		{"base: x\nbuild: a: b\n", `Capstanfile:2: not valid YAML: mapping values are not allowed in this context`},
		{"base: x\nbuild: \"make\n", `Capstanfile:2: not valid YAML: found unexpected end of stream`},
		{"base: x\nbuild: \xff\n", `Capstanfile:2: not UTF-8 text (expected YAML text)`},
		{"cpus: 0\nbase: x\narch: z\nfoo: 1\n", "Capstanfile:1: cpus: found \"0\" (expected a whole number, 1 or more)\n" +
			"Capstanfile:3: arch: found \"z\" (expected amd64 or arm64)\n" +
			"Capstanfile:4: foo: unknown key (expected one of arch, base, build, cmdline, cpus, env, expose, files, labels, memory, rootfs, user, volumes, workdir)"},
	}
	for _, tt := range tests {
		f, err := Parse("Capstanfile", []byte(tt.text))
		if err == nil {
			t.Errorf("%q: no error, got %+v", tt.text, f)
			continue
		}
		if err.Error() != tt.want {
			t.Errorf("%q:\ngot  %s\nwant %s", tt.text, err, tt.want)
		}
	}
}

// TestOSvCmdline: a command line of OSv's is none of a Linux program, and what
// it is shows when the base is known.
func TestOSvCmdline(t *testing.T) {
	const line = `--env=A=b /one.so "x y"; /two.so & /three.so`
	f, err := Parse("Capstanfile", []byte("base: x\ncmdline: '"+line+"'\n"))
	if err != nil {
		t.Fatal(err)
	}
	if f.CmdlineText != line || f.Cmdline != nil {
		t.Errorf("it is %q and %q", f.CmdlineText, f.Cmdline)
	}
	var mistake *Error
	if err := f.CheckWords(); !errors.As(err, &mistake) || mistake.Line != 2 || mistake.Key != "cmdline" {
		t.Errorf("CheckWords: %v", err)
	}
	if f, err = Parse("Capstanfile", []byte("base: x\ncmdline: /one.so\n")); err != nil || f.CheckWords() != nil {
		t.Errorf("%v, %v", err, f.CheckWords())
	}
}

func TestErrorFields(t *testing.T) {
	_, err := Parse("dir/Capstanfile", []byte("base: x\n\nexpose: [80, x]\n"))
	var got *Error
	if !errors.As(err, &got) {
		t.Fatalf("%v is not an *Error", err)
	}
	if got.File != "dir/Capstanfile" || got.Line != 3 || got.Column != 14 || got.Key != "expose" {
		t.Errorf("got %+v", got)
	}
}

func TestManyMistakes(t *testing.T) {
	_, err := Parse("Capstanfile", []byte("expose: ["+strings.Repeat("x, ", 50000)+"]\n"))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxReported+1 || !strings.Contains(lines[maxReported], "and 49980 more mistakes") {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
}

func TestHostileYAML(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "]\n"
	}
	for name, text := range map[string]string{
		"aliases":     bomb + "env: *j\n",
		"deep flow":   "a: " + strings.Repeat("[", 500000),
		"deep blocks": strings.Repeat("- ", 300000) + "x",
		"large":       "cmdline: x\n" + strings.Repeat("#", maxSize),
		"long value":  "arch: " + strings.Repeat("x", 1<<19),
	} {
		_, err := Parse("Capstanfile", []byte(text))
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if len(err.Error()) > 8000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, Name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
	path := filepath.Join(dir, Name)
	if err := os.WriteFile(path, []byte("base: x\ncpus: 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Read(path)
	if err != nil || f.CPUs != 3 || f.Line("cpus") != 2 {
		t.Errorf("%+v, %v", f, err)
	}
	if got := f.Mistake(f.Line("cpus"), "cpus", "too many").Error(); got != path+":2: cpus: too many" {
		t.Error(got)
	}
}

func TestPorts(t *testing.T) {
	got := PortRange{8000, 8002, "udp"}.Ports()
	if want := []string{"8000/udp", "8001/udp", "8002/udp"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("base: x\nfiles:\n  /a: b/&\nenv: {A: 1}\n"))
	f.Add([]byte("cmdline: [a, b]\nexpose: [80, 1-5/udp]\nmemory: 1G\n"))
	f.Add([]byte("a: &a [*a]\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("Capstanfile", data)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "Capstanfile:") {
					t.Errorf("a line of the error names no place: %q", line)
				}
			}
			return
		}
		for _, c := range file.Files {
			if !strings.HasPrefix(c.Guest, "/") || strings.HasPrefix(c.Host, "/") || !filepath.IsLocal(c.Host) {
				t.Errorf("unsafe entry %+v", c)
			}
		}
	})
}
