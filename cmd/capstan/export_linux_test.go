package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestExportMistakes: a mistake is a sentence with the way out, and leaves no
// file.
func TestExportMistakes(t *testing.T) {
	w := newWorld(t)
	w.write("app", "#!/bin/sh\n")
	w.write("Capstanfile", "cmdline: /app\nfiles: {/app: app}\n")
	w.must("build", "app")
	w.write("there", "kept")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"exists":    {[]string{"-o", "there", "app"}, "there exists\n  try: another name, or --force"},
		"a folder":  {[]string{"--force", "-o", ".", "app"}, "no regular file"},
		"no folder": {[]string{"-o", "no/x", "app"}, "no such file or directory"},
		"no size":   {[]string{"--disk", "20", "-o", "x", "app"}, "--disk 20: expected a size with its unit"},
		"no format": {[]string{"--format", "vhdx", "-o", "x", "app"}, "--format vhdx: expected raw or qcow2"},
		"no file":   {[]string{"app"}, "needs a file to write to"},
		"no image":  {[]string{"-o", "x", "nowhere"}, "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.capstan(append([]string{"export"}, tt.args...)...)
			if r.status == 0 || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("status %d, not %q:\n%s", r.status, tt.want, r.stderr)
			}
		})
	}
	w.checkFiles("there")
	if text, err := os.ReadFile(filepath.Join(w.dir, "there")); err != nil || string(text) != "kept" {
		t.Errorf("the file that was there: %q, %v", text, err)
	}
}

// checkFiles fails the test unless of what export may write these are there.
func (w *world) checkFiles(want ...string) {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		switch e.Name() {
		case "app", "Capstanfile", "root":
		default:
			got = append(got, e.Name())
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("files %q, not %q", got, want)
	}
}

// TestReplaceFile: what fails in the middle leaves neither its own file nor
// harms the one that is there.
func TestReplaceFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := replaceFile(path, func(f *os.File) error {
		_, err := f.WriteString("partial")
		return errors.Join(err, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC})
	})
	if err = full(path, err); err.Error() != "writing "+path+": no space left on device" {
		t.Errorf("a full disk: %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if text, err := os.ReadFile(path); err != nil || string(text) != "kept" || len(entries) != 1 {
		t.Errorf("%q, %v, %v", text, err, entries)
	}
}
