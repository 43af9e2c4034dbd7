//go:build e2e

package e2e

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// oldPackages are some in the form that packages of old Capstan's time had.
var oldPackages = map[string]map[string]string{
	"osv.bootstrap": {
		"meta/run.yaml": "runtime: native\n\nconfig_set:\n  sleep:\n    bootcmd: /bin/sleep.so $SECONDS\n    env:\n      SECONDS: -1\n  ready:\n    bootcmd: /bin/echo.so \\n--- READY ---\n",
		"bin/echo.so":   "echo", "conf": "bootstrap", "link": "->bin/echo.so",
	},
	"node-4.4.5": {
		"meta/run.yaml": "runtime: native\nconfig_set:\n  node:\n    bootcmd: /node $NODE_ARGS $MAIN $ARGS\n    env:\n      NODE_ARGS: --no-deprecation\n      MAIN: /mymain.js\n      ARGS:\n",
	},
	"openjdk8-zulu-compact1": {
		"meta/run.yaml": "runtime: native\nconfig_set:\n  java:\n    bootcmd: /java.so -Xms$XMS -cp $CLASSPATH $JVM_ARGS $MAIN $ARGS\n    env:\n      XMS: 512m\n      CLASSPATH: /\n      JVM_ARGS: -Duser.dir=/\n      MAIN: main.Hello\n      ARGS:\n",
	},
	"python-2.7": {
		"meta/run.yaml": "runtime: native\nconfig_set:\n  python:\n    bootcmd: /python $PYTHON_ARGS $MAIN $ARGS\n    env:\n      PYTHONHOME: /pyenv\n      PYTHON_ARGS: -O\n      MAIN: \"-\"\n      ARGS:\n\nconfig_set_default: python\n",
	},
	"spark": {
		"meta/package.yaml": "name: spark\ntitle: Spark\nauthor: A\nrequire: [openjdk8-zulu-compact1]\n",
		"meta/run.yaml":     "runtime: native\nconfig_set:\n  master:\n    bootcmd: >\n      /java.so\n      -Xms$XMS\n      org.apache.spark.Master\n    env:\n      XMS: 512m\n",
		"conf":              "spark", "jars/a.jar": "jar",
	},
}

// oldRuns are applications' meta/run.yaml, by runtime.
var oldRuns = map[string]string{
	"node":   "config_set:\n  one: {main: /s.js}\n  two: {main: /s.js, args: [Johnny], node_args: [--v8]}\n  sh: {shell: true}\n",
	"java":   "config_set:\n  one: {main: My, args: [Johnny], xmx: 64m}\n  two: {main: /a.jar, classpath: [/, /b]}\n  other: {base: 'spark:master'}\n",
	"python": "config_set:\n  one: {main: /s.py}\n  two: {main: /s.py, args: [Johnny], env: {A: b}}\n  sh: {shell: true}\n",
	"native": "config_set:\n  one: {bootcmd: /a.so --x, env: {PORT: 80}}\n  two: {base: 'openjdk8-zulu-compact1:java', env: {MAIN: package1.Main}}\n",
}

// TestOldCapstan: old Capstan itself keeps packages that are used as they are,
// and the other way round; both collect the same of an application.
func TestOldCapstan(t *testing.T) {
	program := clientProgram(t, "oldcapstan")
	c, other := newCapstan(t), newCapstan(t)
	old := func(root, dir, word string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, word)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CAPSTAN_ROOT="+root)
		if r := finish(t, cmd); r.status != 0 {
			t.Fatalf("old Capstan's %s: %+v", word, r)
		}
	}
	if err := os.MkdirAll(c.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, files := range oldPackages {
		files = maps.Clone(files)
		if files["meta/package.yaml"] == "" {
			files["meta/package.yaml"] = "name: " + name + "\ntitle: The " + name + "\nauthor: A\n"
		}
		dir := writeTree(t, t.TempDir(), files)
		other.must(t, "package", "import", dir)
		old(c.root, dir, "import")
	}
	for runtime, sets := range oldRuns {
		t.Run(runtime, func(t *testing.T) {
			dir := writeTree(t, t.TempDir(), map[string]string{
				"meta/package.yaml": "name: app\ntitle: App\nauthor: Me\nrequire: [spark]\n", "meta/run.yaml": "runtime: " + runtime + "\n\n" + sets,
				"d/e/f": runtime, "skip/y": "y", ".capstanignore": "/skip\n",
			})
			old(c.root, dir, "collect")
			want := collected(t, dir)
			old(other.root, dir, "collect")
			if got := collected(t, dir); !maps.Equal(got, want) {
				t.Errorf("old Capstan collects of packages that were kept here\n%q\nand of its own\n%q", got, want)
			}
			if r := c.runIn(t, dir, "package", "collect"); r.status != 0 {
				t.Fatal(r.stderr)
			}
			if got := collected(t, dir); !maps.Equal(got, want) || len(got) < 8 {
				t.Errorf("\ngot  %q\nwant %q", got, want)
			}
		})
	}
}

// collected are the files in mpm-pkg. In scripts, old Capstan has variables in
// any order.
func collected(t *testing.T, dir string) map[string]string {
	t.Helper()
	root := filepath.Join(dir, "mpm-pkg")
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if e.Type() == fs.ModeSymlink {
			files[rel], err = os.Readlink(path)
			return err
		}
		text, err := os.ReadFile(path)
		files[rel] = string(text)
		if strings.HasPrefix(rel, "run/") {
			words := strings.Fields(string(text))
			n := slices.IndexFunc(words, func(w string) bool { return !strings.HasPrefix(w, "--env=") })
			slices.Sort(words[:max(n, 0)])
			files[rel] = strings.Join(words, " ")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
