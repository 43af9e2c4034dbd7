package source

import (
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"capstan/internal/capstanfile"
)

// TestExample builds what Capstanfile.example says, in a copy of its files:
// other tests may be at it as well.
func TestExample(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../../testdata/example")); err != nil {
		t.Fatal(err)
	}
	f, err := capstanfile.Read("../../../Capstanfile.example")
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("/bin/sh", "-c", f.Build)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", f.Build, err, out)
	}
	l, err := FromCapstanfile(t.Context(), dir, f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.ArchOf(f.Cmdline[0]); got != f.Arch {
		t.Errorf("the program is for %q, the image for %q", got, f.Arch)
	}
	lines, headers := entries(t, tarOf(t, l))
	var names []string
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " = ")
		names = append(names, strings.Fields(line)[2])
	}
	want := []string{
		"data/", "etc/", "etc/group", "etc/passwd", "etc/server/", "etc/server/listen.conf", "etc/server/root.conf",
		"srv/", "srv/www/", "srv/www/img/", "srv/www/img/logo.svg", "srv/www/index.html", "srv/www/style.css",
		"usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/server",
		"usr/share/", "usr/share/doc/", "usr/share/doc/server/", "usr/share/doc/server/README",
	}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("\ngot  %v\nwant %v", names, want)
	}
	if h := headers["usr/local/bin/server"]; h.Mode&0o111 == 0 || !slices.Contains(names, strings.TrimPrefix(f.Workdir, "/")+"/") {
		t.Errorf("the program's mode is %o, the workdir %s", h.Mode, f.Workdir)
	}
}
