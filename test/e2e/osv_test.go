//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/image/disk/disktest"
)

// writeTree makes files, and links of texts that begin with "->".
func writeTree(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(text, "->")
		var err error
		if isLink {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// says is what a machine with a stand-in for OSv writes: its command line, and
// the file that the last word of that names.
func (c *capstan) says(t *testing.T, want string, args ...string) {
	t.Helper()
	if got := c.must(t, append([]string{"run", "--rm"}, args...)...); got != want {
		t.Errorf("%v: it says\n%.300q\nwant\n%.300q", args, got, want)
	}
}

// TestOSvCompose: a loader of each format and the files of a directory are a
// disk in which OSv's structures are where OSv looks for them: the machine
// reads its command line and a file of its root file system.
func TestOSvCompose(t *testing.T) {
	c := newCapstan(t)
	large := strings.Repeat("all work and no play\n", 5000)
	tree := writeTree(t, t.TempDir(), map[string]string{
		"etc/motd": "ahoy\n", "etc/link": "->/deep/link", "deep/link": "->large", "deep/large": "->/a/b/c/large", "a/b/c/large": large,
		"exactly": strings.Repeat("x", 512), "empty": "", "etc/.capstanignored": "",
	})
	for name, args := range map[string][]string{
		"raw": {"-O", "raw"}, "qcow2": {"-c", "-O", "qcow2"}, "vmdk": {"-O", "vmdk"}, "vdi": {"-O", "vdi"}, "vhd": {"-O", "vpc", "-o", "force_size=on"},
	} {
		c.must(t, "import", "loader/"+name, writeDisk(t, disktest.OSv(t), args...))
		c.must(t, "compose", "-l", "loader/"+name, "-c", "/etc/motd", "composed/"+name, tree)
		c.says(t, "/etc/motd\nahoy\n", "composed/"+name)
	}
	for line, want := range map[string]string{
		"/etc/link": large, "/exactly": strings.Repeat("x", 512), "/empty": "",
		"/none": "no such file\n", "/etc": "no file\n",
	} {
		c.says(t, line+"\n"+want, "--execute", line, "composed/raw")
	}
	c.says(t, "--env=A=b\\ c /etc/motd\nahoy\n", "-e", "A=b c", "composed/raw")
	for _, format := range []string{"vmdk-stream", "vdi", "vhd"} {
		file := filepath.Join(t.TempDir(), "disk")
		c.must(t, "export", "composed/raw", "--format", format, "-o", file)
		c.must(t, "import", "exported/"+format, file)
		c.says(t, "/etc/motd\nahoy\n", "exported/"+format)
	}
	c.must(t, "import", "osv-loader", writeDisk(t, disktest.OSv(t), "-O", "qcow2"))
	c.must(t, "compose", "-s", "64M", "one", filepath.Join(tree, "etc", "motd"))
	c.says(t, "/motd\nahoy\n", "--execute", "/motd", "one")
	if got := c.must(t, "info", "one"); got != "one: RAW disk of 64M, boots by BIOS, OSv, a read-only file system (ROFS) of 1 file, command line \"/default.so\"\n" {
		t.Errorf("info: %s", got)
	}
	c.says(t, "/default.so\nno root file system\n", "osv-loader")
	c.checkNothingLeft(t)
}

// TestOSvBuild: a Capstanfile on a loader, and another one on what that gave.
func TestOSvBuild(t *testing.T) {
	c := newCapstan(t)
	c.must(t, "import", "team/osv-loader", writeDisk(t, disktest.OSv(t), "-O", "qcow2"))
	first := writeTree(t, t.TempDir(), map[string]string{
		"Capstanfile":  "base: team/osv-loader\ncmdline: /one.so; /tools/hello.so & /etc/conf\nbuild: echo made > made.txt\nfiles:\n  /etc/conf: conf\n  /made: made.txt\n",
		"conf":         "first\n",
		"ROOTFS/d/old": "kept\n",
		"ROOTFS/d/l":   "->old",
	})
	id := c.must(t, "build", "first", first)
	c.says(t, "/one.so; /tools/hello.so & /etc/conf\nfirst\n", "first")
	if again := c.must(t, "build", "first", first); again != id {
		t.Errorf("built again, it is %s, and was %s", again, id)
	}
	second := writeTree(t, t.TempDir(), map[string]string{
		"Capstanfile": "base: first\nenv: {GREETING: good morning}\nworkdir: /srv\nfiles: {/etc/conf: conf, /d/new: conf}\n",
		"conf":        "second\n",
	})
	c.must(t, "build", "second", second)
	options := `--env=GREETING=good\ morning --cwd=/srv `
	c.says(t, options+"/one.so; /tools/hello.so & /etc/conf\nsecond\n", "second")
	for line, want := range map[string]string{"/made": "made\n", "/d/l": "kept\n", "/d/new": "second\n"} {
		c.says(t, line+"\n"+want, "--execute", line, "second")
	}
	third := writeTree(t, t.TempDir(), map[string]string{"Capstanfile": "base: second\ncmdline: [/d/old, /a b, /made]\n"})
	c.must(t, "build", "third", third)
	c.says(t, "/d/old \"/a b\" /made\nmade\n", "third")
	c.checkNothingLeft(t)
}

// osvFiles makes what examples of OSv name: loaders, a package that all need,
// and files.
func osvFiles(t *testing.T, c *capstan, dir string) {
	t.Helper()
	loader := writeDisk(t, disktest.OSv(t), "-O", "qcow2")
	c.must(t, "import", "osv-loader", loader)
	c.must(t, "tag", "osv-loader", "team/osv-loader")
	writeTree(t, dir, map[string]string{"hello.so": "\x7fELF", "tree/app.so": "\x7fELF"})
	c.bootstrap(t)
}

// bootstrap imports a package that every image needs.
func (c *capstan) bootstrap(t *testing.T) {
	t.Helper()
	c.must(t, "package", "import", writeTree(t, t.TempDir(), map[string]string{
		"meta/package.yaml": "name: osv.bootstrap\ntitle: OSv Bootstrap\nauthor: A\nversion: 0.57\n",
		"etc/hosts":         "127.0.0.1 localhost\n", "etc/conf": "bootstrap\n",
	}))
}

// TestOSvPackage: a package and those that it needs, kept as old Capstan did,
// are an image that boots the script that they say.
func TestOSvPackage(t *testing.T) {
	c := newCapstan(t)
	c.must(t, "import", "osv-loader", writeDisk(t, disktest.OSv(t), "-O", "raw"))
	app := t.TempDir()
	must := func(args ...string) string {
		t.Helper()
		r := c.runIn(t, app, args...)
		if r.status != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
		return r.stdout
	}
	must("package", "init", "-n", "com.example.app", "-t", "An example", "-a", "Me", "-v", "1.2", "--require", "lib", "--runtime", "native")
	writeTree(t, app, map[string]string{
		"meta/run.yaml": "runtime: native\nconfig_set:\n  hello: {bootcmd: /hello.so, env: {WHO: Johnny}}\n  other: {base: 'lib:tool'}\nconfig_set_default: hello\n",
		"etc/app":       "the application's\n", "secret": "never\n", ".capstanignore": "/secret\n",
	})
	lib := writeTree(t, t.TempDir(), map[string]string{
		"meta/package.yaml": "name: lib\ntitle: Lib\nauthor: A\n",
		"meta/run.yaml":     "runtime: native\nconfig_set: {tool: {bootcmd: /tool.so $A, env: {A: b c}}}\n",
		"etc/conf":          "lib\n", "usr/lib/l": "->../../etc/conf",
	})
	archive := strings.TrimSpace(c.must(t, "package", "build", lib))
	c.must(t, "package", "import", archive)
	if r := c.runIn(t, app, "package", "compose", "a"); r.status != 1 || !strings.Contains(r.stderr, "osv.bootstrap is needed") {
		t.Errorf("without bootstrap: %+v", r)
	}
	c.bootstrap(t)
	must("package", "compose", "team/app")
	// The stand-in takes the last word for a file: here it is the script.
	c.says(t, "runscript /run/hello;\nno such file\n", "team/app")
	for line, want := range map[string]string{
		"/run/hello": "--env=WHO?=Johnny /hello.so\n", "/run/other": "\"--env=A?=b c\" /tool.so $A\n", "/run/tool": "\"--env=A?=b c\" /tool.so $A\n",
		"/etc/conf": "lib\n", "/etc/hosts": "127.0.0.1 localhost\n", "/etc/app": "the application's\n", "/secret": "no such file\n", "/meta/run.yaml": "no such file\n",
	} {
		c.says(t, line+"\n"+want, "--execute", line, "team/app")
	}
	must("package", "compose", "--env", "A=x y", "--run", "/etc/app", "team/app")
	c.says(t, "--env=A=x\\ y /etc/app\nthe application's\n", "team/app")
	must("package", "compose", "--boot", "other", "--boot", "tool", "team/app")
	if got := c.must(t, "info", "team/app"); !strings.Contains(got, `"runscript /run/other;runscript /run/tool;"`) {
		t.Errorf("info: %s", got)
	}
	if got := strings.TrimSpace(must("package", "collect")); got != "mpm-pkg" {
		t.Errorf("collected in %q", got)
	}
	if text, err := os.ReadFile(filepath.Join(app, "mpm-pkg", "run", "hello")); err != nil || string(text) != "--env=WHO?=Johnny /hello.so\n" {
		t.Errorf("%q, %v", text, err)
	}
	c.checkNothingLeft(t)
}
