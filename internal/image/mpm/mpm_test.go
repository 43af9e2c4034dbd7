package mpm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capstan/internal/capstanfile"
	"capstan/internal/image/rofs"
)

// writeTree makes files of a text: a line "NAME: CONTENT" each, with \n for the
// ends of its lines.
func writeTree(t testing.TB, dir, text string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		name, content, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		content = strings.ReplaceAll(content, `\n`, "\n")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const manifest = `meta/package.yaml: name: NAME\ntitle: A package\nauthor: Me\n`

// pack puts a package into a folder.
func pack(t testing.TB, f Folder, name, text string) {
	t.Helper()
	dir := writeTree(t, t.TempDir(), strings.ReplaceAll(manifest, "NAME", name)+"\n"+text)
	if _, err := f.Add(t.Context(), name, name, func(w io.Writer) error { return build(t, dir, w) }); err != nil {
		t.Fatal(err)
	}
}

func build(t testing.TB, dir string, w io.Writer) error {
	d, err := OpenDirectory(dir)
	if err != nil {
		return err
	}
	return d.Write(t.Context(), w)
}

// contents are the files of a tree.
func contents(t testing.TB, tree *rofs.Tree) map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := tree.Write(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	f, err := rofs.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for e := range f.Entries() {
		if e.Type == 0 {
			text, err := io.ReadAll(f.Content(e))
			if err != nil {
				t.Fatal(err)
			}
			files[e.Path] = string(text)
		}
	}
	return files
}

// TestApplication: an image's content is that of all packages, each behind what
// it needs, then the application's, and the scripts.
func TestApplication(t *testing.T) {
	folder := Folder{filepath.Join(t.TempDir(), "packages")}
	pack(t, folder, "osv.bootstrap", "usr/lib/a: bootstrap\netc/conf: bootstrap\nboot: 1\n")
	pack(t, folder, "lib", "etc/conf: lib\nlib: 1\nmeta/run.yaml: runtime: native\\nconfig_set: {hello: {bootcmd: /lib.so}, tool: {bootcmd: /tool.so}}\\n")
	pack(t, folder, "tools", "etc/conf: tools\nmeta/package.yaml: name: tools\\ntitle: T\\nauthor: A\\nrequire: [lib]\\n")
	pack(t, folder, "extra", "extra: 1\n")
	dir := writeTree(t, t.TempDir(), `
meta/package.yaml: name: app\ntitle: App\nauthor: Me\nrequire: [tools, lib]\n
meta/run.yaml: runtime: native\nconfig_set:\n  hello:\n    bootcmd: /hello.so --a\n    env: {B: x y, A: 1}\nconfig_set_default: hello\n
etc/app: app
boot: 2
ignored/file: 1
mpm-pkg/old: 1
app.mpm: 1
.capstanignore: /ignored\n
`)
	app, err := OpenApplication(t.Context(), dir, func(s string) { t.Errorf("noted: %s", s) })
	if err != nil {
		t.Fatal(err)
	}
	if needs := app.Needs([]string{"extra"}); !slices.Equal(needs, []string{"osv.bootstrap", "tools", "lib", "extra"}) {
		t.Errorf("it needs %q", needs)
	}
	packages, err := folder.Resolve(t.Context(), app.Needs([]string{"extra"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range packages {
		names = append(names, d.Name)
	}
	if !slices.Equal(names, []string{"osv.bootstrap", "lib", "tools", "extra"}) {
		t.Errorf("they come in the order %q", names)
	}
	tree, err := app.Plan(t.Context(), folder, packages)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"usr/lib/a": "bootstrap", "etc/conf": "tools", "boot": "2", "lib": "1", "extra": "1", "etc/app": "app",
		"run/hello": "--env=A?=1 \"--env=B?=x y\" /hello.so --a\n", "run/tool": "/tool.so\n",
	}
	if got := contents(t, tree); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("\ngot  %q\nwant %q", got, want)
	}
	for range 2 { // the second takes the first one's place
		out, err := app.Collect(t.Context(), tree)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		err = filepath.WalkDir(out, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(out, path)
			text, rerr := os.ReadFile(path)
			got[filepath.ToSlash(rel)] = string(text)
			return errors.Join(err, rerr)
		})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("collected: %v\n%q", err, got)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, CollectDir+"-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestScripts compares the scripts of run.yaml with those that old Capstan's
// documentation says.
func TestScripts(t *testing.T) {
	base := func(name, set, cmd string) string {
		return name + " runtime: native\nconfig_set:\n  " + set + ":\n    bootcmd: " + cmd + "\n"
	}
	node := base("node-4.4.5", "node", "/node.so $NODE_ARGS $MAIN $ARGS\n    env: {NODE_ARGS: --, MAIN: /mymain.js, ARGS: ''}")
	java := base("openjdk8-zulu-compact1", "java", "/java.so $JVM_ARGS $MAIN")
	python := base("python-2.7", "python", "/python.so")
	const app = "app runtime: "
	for name, tt := range map[string]struct {
		packages []string
		want     string
	}{
		"native":        {[]string{app + "native\nconfig_set:\n  x:\n    bootcmd: /a.so 'b'; /c.so\n"}, "/a.so 'b'; /c.so\n"},
		"variables":     {[]string{app + "native\nconfig_set:\n  x:\n    bootcmd: /a.so\n    env: {B: '2', A: 'q\"x', E: ''}\n"}, `"--env=A?=q\"x" --env=B?=2 --env=E?= /a.so` + "\n"},
		"node":          {[]string{node, app + "node\nconfig_set: {x: {main: /server.js}}\n"}, "--env=ARGS?= --env=MAIN?=/server.js --env=NODE_ARGS?=-- /node.so $NODE_ARGS $MAIN $ARGS\n"},
		"node's args":   {[]string{node, app + "node\nconfig_set: {x: {main: /s.js, args: [localhost, 8000], node_args: [--version]}}\n"}, `"--env=ARGS?=localhost 8000" --env=MAIN?=/s.js --env=NODE_ARGS?=--version /node.so $NODE_ARGS $MAIN $ARGS` + "\n"},
		"node's shell":  {[]string{node, app + "node\nconfig_set: {x: {shell: true}}\n"}, "--env=ARGS?= --env=MAIN?= --env=NODE_ARGS?=-- /node.so $NODE_ARGS $MAIN $ARGS\n"},
		"java":          {[]string{java, app + "java\nconfig_set: {x: {main: MyClass, args: [Johnny], xmx: 512m}}\n"}, "--env=ARGS?=Johnny --env=CLASSPATH?=/ --env=JVM_ARGS?=-Dx=y --env=MAIN?=MyClass --env=XMX?=512m /java.so $JVM_ARGS $MAIN\n"},
		"a jar":         {[]string{java, app + "java\nconfig_set: {x: {main: /a.jar, classpath: [/, /b]}}\n"}, "--env=CLASSPATH?=/:/b --env=JVM_ARGS?=-jar --env=MAIN?=/a.jar /java.so $JVM_ARGS $MAIN\n"},
		"python":        {[]string{python, app + "python\nconfig_set: {x: {main: /a.py, env: {PYTHON_ARGS: -v}}}\n"}, "--env=MAIN?=/a.py --env=PYTHON_ARGS?=-v /python.so\n"},
		"python's":      {[]string{python, app + "python\nconfig_set: {x: {shell: true}}\n"}, "--env=ARGS?= --env=MAIN?=- --env=PYTHON_ARGS?=-O /python.so\n"},
		"another base":  {[]string{base("cli", "cli", "/cli.so\n    env: {A: base, B: base}"), app + "node\nconfig_set: {x: {base: 'cli:cli', env: {A: own}}}\n"}, "--env=A?=own --env=B?=base /cli.so\n"},
		"a like base":   {[]string{base("node-6", "n", "/n.so"), app + "node\nconfig_set: {x: {base: 'node-6:n', main: /s.js}}\n"}, "--env=MAIN?=/s.js --env=NODE_ARGS?=-- /n.so\n"},
		"the last wins": {[]string{base("a", "x", "/a.so"), base("b", "x", "/b.so")}, "/b.so\n"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := Scripts(described(t, tt.packages))
			if err != nil {
				t.Fatal(err)
			}
			n := slices.IndexFunc(files, func(f rofs.File) bool { return f.Path == "run/x" })
			if n < 0 || string(files[n].Content) != tt.want {
				t.Errorf("got  %qwant %q", files, tt.want)
			}
		})
	}
	for name, packages := range map[string][]string{
		"no base":     {app + "node\nconfig_set: {x: {main: /a.js}}\n"},
		"no such set": {node, app + "node\nconfig_set: {x: {base: 'node-4.4.5:other', main: /a.js}}\n"},
		"in circles":  {"a runtime: native\nconfig_set: {x: {base: 'b:x'}}\n", "b runtime: native\nconfig_set: {x: {base: 'a:x'}}\n"},
	} {
		var refused *Error
		if _, err := Scripts(described(t, packages)); !errors.As(err, &refused) || refused.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// described are packages with a name and a run.yaml each.
func described(t *testing.T, packages []string) []*Description {
	t.Helper()
	var list []*Description
	for _, p := range packages {
		name, text, _ := strings.Cut(p, " ")
		run, err := capstanfile.ParseRun("run.yaml", []byte(text), capstanfile.Own)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, &Description{Package: capstanfile.Package{Name: name}, Run: run})
	}
	return list
}

func TestResolve(t *testing.T) {
	folder := Folder{filepath.Join(t.TempDir(), "packages")}
	needs := func(name, require string) {
		pack(t, folder, name, "meta/package.yaml: name: "+name+"\\ntitle: T\\nauthor: A\\nrequire: "+require+"\\n")
	}
	needs("a", "[b, c]")
	needs("b", "[d]")
	needs("c", "[d]")
	needs("d", "[]")
	needs("x", "[y]")
	needs("y", "[x]")
	needs("m", "[a, gone, d, away]")
	order := func(obtain func(string) error, names ...string) (string, error) {
		list, err := folder.Resolve(t.Context(), names, obtain)
		var found []string
		for _, d := range list {
			found = append(found, d.Name)
		}
		return strings.Join(found, " "), err
	}
	if got, err := order(nil, "d", "a"); err != nil || got != "d b c a" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := order(nil, "x"); err == nil || !strings.Contains(err.Error(), "needs itself") {
		t.Errorf("in circles: %v", err)
	}
	var missing *MissingError
	if _, err := order(nil, "m", "gone"); !errors.As(err, &missing) || !slices.Equal(missing.Names, []string{"gone", "away"}) {
		t.Errorf("missing: %v", err)
	}
	if _, err := order(nil, "../a"); !errors.As(err, &missing) {
		t.Errorf("a path: %v", err)
	}
	if got, err := order(func(name string) error { needs(name, "[d]"); return nil }, "m"); err != nil || got != "d b c a gone away m" {
		t.Errorf("obtained: %q, %v", got, err)
	}
	list, err := folder.List()
	if err != nil || len(list) != 9 || list[0].Name != "a" || list[0].Title != "T" {
		t.Errorf("listed: %+v, %v", list, err)
	}
}

func TestBuild(t *testing.T) {
	dir := writeTree(t, t.TempDir(), strings.ReplaceAll(manifest, "NAME", "p")+"\nb/c: 1\na: 2\np.mpm: old\nmpm-pkg/x: 1\n.capstanignore: /a\\n\nmeta/README.md: # Hello\n")
	var one, two bytes.Buffer
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(dir, "l")), build(t, dir, &one), build(t, dir, &two)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("built again, it is another one")
	}
	file := filepath.Join(t.TempDir(), "p.mpm")
	if err := os.WriteFile(file, one.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var names []string
	d, err := Describe(t.Context(), file, func(h *tar.Header) error { names = append(names, h.Name+h.Linkname); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "p" || d.Readme != "# Hello" || d.Run != nil || !slices.Equal(names, []string{".capstanignore", "a", "b/", "b/c", "l/etc/passwd"}) {
		t.Errorf("%+v, %q", d, names)
	}
}

// archiveOf is a plain tar of an old archive: names begin with a slash.
func archiveOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := "name: p\ntitle: P\nauthor: A\nunknown: ignored\n"
	headers = append([]tar.Header{{Name: "/meta/package.yaml", Typeflag: tar.TypeReg, Size: int64(len(text))}}, headers...)
	for n, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			io.WriteString(w, text)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestHostile: archives that lead out, lie or end too early are refused, and
// leave nothing.
func TestHostile(t *testing.T) {
	good := archiveOf(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(good)
	z.Close()
	for name, tt := range map[string]struct {
		content []byte
		plan    bool // it shows when it is used
	}{
		"nothing":         {content: nil},
		"a text":          {content: []byte("name: p\n")},
		"half":            {content: good[:700]},
		"half packed":     {content: packed.Bytes()[:packed.Len()/2]},
		"broken gzip":     {content: append([]byte("\x1f\x8b\x08\x00"), make([]byte, 20)...)},
		"no description":  {content: bytes.Replace(good, []byte("/meta/package.yaml"), []byte("/meta/packages.yml"), 1)},
		"upwards":         {archiveOf(t, tar.Header{Name: "../../etc/x", Typeflag: tar.TypeReg}), true},
		"through a link":  {archiveOf(t, tar.Header{Name: "l", Linkname: "/etc", Typeflag: tar.TypeSymlink}, tar.Header{Name: "l/x", Typeflag: tar.TypeReg}), true},
		"a link upwards":  {archiveOf(t, tar.Header{Name: "l", Linkname: "../x", Typeflag: tar.TypeLink}), true},
		"a device":        {archiveOf(t, tar.Header{Name: "d", Typeflag: tar.TypeChar}), true},
		"a name of dots":  {content: bytes.Replace(good, []byte("name: p"), []byte("name: ."), 1)},
		"another package": {content: bytes.Replace(good, []byte("name: p"), []byte("name: q"), 1)},
	} {
		t.Run(name, func(t *testing.T) {
			folder := Folder{filepath.Join(t.TempDir(), "packages")}
			_, err := folder.Add(t.Context(), "the archive", "p", func(w io.Writer) error { _, err := w.Write(tt.content); return err })
			if tt.plan {
				if err != nil {
					t.Fatal(err)
				}
				_, err = rofs.Plan(t.Context(), archiveSource(folder.Path("p"), "p"))
			}
			var own interface{ Hint() string }
			if err == nil || !errors.As(err, &own) || own.Hint() == "" || strings.Contains(err.Error(), folder.Dir) {
				t.Errorf("%v", err)
			}
			if left, _ := os.ReadDir(folder.Dir); !tt.plan && len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestBounds: an archive that does not end is not kept.
func TestBounds(t *testing.T) {
	var b bytes.Buffer
	w := &boundedWriter{&b, 10, "a"}
	_, err := w.Write(make([]byte, 10))
	_, more := w.Write([]byte{1})
	var refused *Error
	if err != nil || !errors.As(more, &refused) || b.Len() != 10 {
		t.Errorf("%v, %v, %d bytes", err, more, b.Len())
	}
	folder := Folder{filepath.Join(t.TempDir(), "packages")}
	_, err = folder.Add(t.Context(), "endless", "", func(w io.Writer) error { return more })
	if left, _ := os.ReadDir(folder.Dir); !errors.As(err, &refused) || len(left) > 0 {
		t.Errorf("%v, left: %v", err, left)
	}
}

func TestInit(t *testing.T) {
	for _, runtime := range append(capstanfile.Runtimes(), "") {
		dir := filepath.Join(t.TempDir(), "new")
		pkg := capstanfile.Package{Name: "p", Title: "A: b", Author: "#me", Require: []string{"osv.cli"}}
		if err := Init(dir, pkg, runtime); err != nil {
			t.Fatal(err)
		}
		app, err := OpenApplication(t.Context(), dir, nil)
		if err != nil {
			t.Fatalf("%s: %v", runtime, err)
		}
		if app.Title != "A: b" || app.Author != "#me" || (app.Run == nil) != (runtime == "") {
			t.Errorf("%s: %+v", runtime, app.Description)
		}
		if runtime != "" && (app.Run.Runtime != runtime || !slices.Equal(app.Run.Default, []string{"default"})) {
			t.Errorf("%s: %+v", runtime, app.Run)
		}
		var refused *Error
		if err := Init(dir, pkg, runtime); !errors.As(err, &refused) {
			t.Errorf("again: %v", err)
		}
	}
	var mistake *capstanfile.Error
	dir := t.TempDir()
	if err := Init(dir, capstanfile.Package{Name: "a/b", Title: "T", Author: "A"}, ""); !errors.As(err, &mistake) {
		t.Errorf("a bad name: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// FuzzArchive: no archive makes its readers fail otherwise than by an error, or
// gives a tree that leads out of its root.
func FuzzArchive(f *testing.F) {
	f.Add(archiveOf(f, tar.Header{Name: "a", Typeflag: tar.TypeDir}, tar.Header{Name: "/a/b", Linkname: "c", Typeflag: tar.TypeSymlink}))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(t.TempDir(), "p.mpm")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		Describe(t.Context(), file, nil)
		tree, err := rofs.Plan(t.Context(), archiveSource(file, "p"))
		if err != nil {
			return
		}
		for e := range tree.Entries() {
			if !filepath.IsLocal(filepath.FromSlash(e.Path)) {
				t.Errorf("it leads to %q", e.Path)
			}
		}
	})
}
