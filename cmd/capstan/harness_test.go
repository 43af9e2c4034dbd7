package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// world is a folder to work in, with a capstan root of its own.
type world struct {
	t         *testing.T
	dir, root string
	env       []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, dir: dir, root: filepath.Join(dir, "root")}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CAPSTAN_") {
			w.env = append(w.env, v)
		}
	}
	w.env = append(w.env, "CAPSTAN_ROOT="+w.root, "CAPSTAN_OFFLINE=true", "LC_ALL=C")
	return w
}

// write makes a file below the folder.
func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	status         int
}

// command is the command line's own binary: this one, by that name.
func (w *world) command(args ...string) *exec.Cmd {
	w.t.Helper()
	path, err := exec.LookPath("capstan") // made by testscript.Main
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), path, args...)
	cmd.Args[0], cmd.Dir, cmd.Env = "capstan", w.dir, w.env
	return cmd
}

func (w *world) capstan(args ...string) result {
	w.t.Helper()
	return w.run(w.command(args...))
}

func (w *world) run(cmd *exec.Cmd) result {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	} else { // somebody listens
		cmd.Stderr = io.MultiWriter(&stderr, cmd.Stderr)
	}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("%q: %v", cmd.Args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func (w *world) must(args ...string) string {
	w.t.Helper()
	r := w.capstan(args...)
	if r.status != 0 {
		w.t.Fatalf("capstan %q: status %d\n%s%s", args, r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// contents lists the files of the store and of the instances, with sizes, and
// whatever else is in the root: what half-made things would show in.
func (w *world) contents() string {
	w.t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(w.root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		name, relErr := filepath.Rel(w.root, path)
		if err = errors.Join(err, relErr); err != nil {
			return err
		}
		switch parent := filepath.Dir(name); {
		case e.IsDir() && parent != "instances" && parent != filepath.Join("store", "tmp"),
			e.Name() == "lock", strings.HasSuffix(name, ".lock"), e.Name() == "oci-layout":
			return nil // what a store is from its first use on
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&list, name, info.Size())
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list.String()
}

var (
	digestForm = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	randomName = regexp.MustCompile(`\bapp-[0-9a-f]{4}\b`)
	tempName   = regexp.MustCompile(`\b(stage|file)-\d+\b`)
)

// plain is a text without what differs from run to run.
func (w *world) plain(s string) string {
	s = strings.ReplaceAll(s, w.root, "$CAPSTAN_ROOT")
	s = strings.ReplaceAll(s, w.dir, "$DIR")
	s = digestForm.ReplaceAllString(s, "DIGEST")
	s = tempName.ReplaceAllString(s, "$1-RANDOM")
	return randomName.ReplaceAllString(s, "app-ABCD")
}

// golden compares a text with a file's, or writes it there.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "mistakes", name)
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	gotCases, wantCases := strings.Split(got, "\n\n"), strings.Split(string(want), "\n\n")
	for n := range max(len(gotCases), len(wantCases)) {
		if n >= len(gotCases) || n >= len(wantCases) || gotCases[n] != wantCases[n] {
			t.Fatalf("%s differs (go test -update writes it anew), first in case %d:\ngot\n%s\nwant\n%s", path, n,
				strings.Join(gotCases[min(n, len(gotCases)):min(n+1, len(gotCases))], ""),
				strings.Join(wantCases[min(n, len(wantCases)):min(n+1, len(wantCases))], ""))
		}
	}
}
