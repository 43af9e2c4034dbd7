package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/capstanfile"
	"capstan/internal/image/disk/disktest"
	"capstan/internal/image/mpm"
	"capstan/internal/repo/legacy/legacytest"
)

// TestOldPackages: packages come from an old repository, are looked for there,
// and are pulled anew where it has newer ones.
func TestOldPackages(t *testing.T) {
	bucket := t.TempDir()
	server := httptest.NewServer(&legacytest.Server{Files: os.DirFS(bucket), Page: 2})
	defer server.Close()
	publish := func(name, version, require string) {
		t.Helper()
		dir := t.TempDir()
		w := &world{t: t, dir: dir}
		text := "name: " + name + "\ntitle: The " + name + "\nauthor: A\nversion: " + version + "\nrequire: [" + require + "]\n"
		w.write("meta/package.yaml", text)
		w.write("etc/"+name, version)
		pkg, err := mpm.OpenDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := pkg.Write(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		out := &world{t: t, dir: bucket}
		out.write("packages/"+name+".yaml", text)
		out.write("packages/"+name+".mpm", b.String())
	}
	publish("osv.bootstrap", "0.9", "")
	publish("osv.cli", "1.2", "lib")
	publish("lib", "1.0.3", "")
	(&world{t: t, dir: bucket}).write("packages/bad.yaml", "name: [")

	w := newWorld(t)
	w.env = append(w.env, "CAPSTAN_OFFLINE=false", "CAPSTAN_REPO_URL="+server.URL)
	if got := w.must("package", "search", "OSV"); strings.Count(got, "\n") != 3 || !strings.Contains(got, "The osv.cli") {
		t.Errorf("search: %s", got)
	}
	if got := w.must("package", "search", "--format", "json", "bad"); !strings.Contains(got, `"problem": "bad.yaml:1`) {
		t.Errorf("search: %s", got)
	}
	w.must("package", "pull", "osv.bootstrap")
	if r := w.capstan("package", "pull", "nothing"); r.status != 1 || !strings.Contains(r.stderr, "has no package nothing\n") {
		t.Errorf("pull: %+v", r)
	}

	w.write("loader", string(disktest.BIOS("/default.so", false)))
	w.must("import", "osv-loader", "loader")
	if r := w.capstan("package", "compose", "--require", "osv.cli", "app"); r.status != 1 || !strings.Contains(r.stderr, "osv.cli is needed") {
		t.Errorf("compose without what it needs: %+v", r)
	}
	if r := w.capstan("package", "compose", "-p", "-v", "--require", "osv.cli", "app"); r.status != 0 || !strings.Contains(r.stderr, "capstan: /etc/lib\n") ||
		!strings.Contains(r.stderr, "there is no /run/default in the image") || !strings.Contains(r.stderr, "without checksums") {
		t.Errorf("compose: %+v", r)
	}

	publish("lib", "1.0.10", "")
	publish("osv.cli", "1.1", "lib")
	r := w.capstan("package", "update", "-v")
	if r.status != 0 || !strings.Contains(r.stderr, "pulled the package lib\n") || !strings.Contains(r.stderr, "updated 1 of 3 packages") {
		t.Errorf("update: %+v", r)
	}
	if got := w.must("package", "list", "--format", "{{.Name}} {{.Version}}"); got != "lib 1.0.10\nosv.bootstrap 0.9\nosv.cli 1.2\n" {
		t.Errorf("updated: %s", got)
	}
	// Another package under a name is not taken.
	if err := os.Rename(filepath.Join(bucket, "packages", "lib.mpm"), filepath.Join(bucket, "packages", "osv.cli.mpm")); err != nil {
		t.Fatal(err)
	}
	if r := w.capstan("package", "pull", "osv.cli"); r.status != 1 || !strings.Contains(r.stderr, "it is the package lib, and not osv.cli") {
		t.Errorf("pull of another: %+v", r)
	}
	w.env = append(w.env, "CAPSTAN_OFFLINE=true")
	if r := w.capstan("package", "pull", "lib"); r.status != 1 || !strings.Contains(r.stderr, "offline") {
		t.Errorf("offline: %+v", r)
	}
}

// TestPackageText: what a package says of itself, and what its files are called,
// does nothing to a terminal.
func TestPackageText(t *testing.T) {
	const evil, shown = "\x1b]0;owned\a", `\x1b]0;owned\a`
	bucket := t.TempDir()
	server := httptest.NewServer(&legacytest.Server{Files: os.DirFS(bucket), Page: 2})
	defer server.Close()
	text := strings.ReplaceAll(`name: bad
title: "T EVIL"
author: "A EVIL"
version: "1 EVIL"
require: []
`, "EVIL", `\e]0;owned\a`)
	w := newWorld(t)
	w.env = append(w.env, "CAPSTAN_OFFLINE=false", "CAPSTAN_REPO_URL="+server.URL)
	(&world{t: t, dir: bucket}).write("packages/bad.yaml", text)
	w.write("bad/meta/package.yaml", text)
	w.write("bad/meta/run.yaml", "runtime: native\nconfig_set:\n  hello:\n    bootcmd: \"/hello.so \\e]0;owned\\a\"\n")
	w.write("bad/meta/README.md", "# Bad\r\n\tindented\n"+evil+"\n")
	w.write("bad/etc/"+evil, "")
	if err := os.Symlink(evil, filepath.Join(w.dir, "bad", "etc", "link")); err != nil {
		t.Fatal(err)
	}
	w.must("package", "import", "bad")
	w.write("boot/meta/package.yaml", "name: osv.bootstrap\ntitle: T\nauthor: A\n")
	w.must("package", "import", "boot")
	w.write(".capstanignore", "/bad\n/boot\n/root\n")
	w.write("meta/package.yaml", "name: app\ntitle: T\nauthor: A\n")
	for _, tt := range []struct {
		args  string
		times int
	}{
		{"package list", 2}, {"package search", 2}, {"package describe -c bad", 7}, {"package collect -v --require bad", 2},
	} {
		r := w.capstan(strings.Fields(tt.args)...)
		got := r.stdout + r.stderr
		if r.status != 0 || strings.ContainsAny(got, "\x1b\a\r\t") || strings.Count(got, shown) != tt.times {
			t.Errorf("%s: status %d, %q", tt.args, r.status, got)
		}
		if tt.times == 7 && !strings.Contains(got, "PACKAGE DOCUMENTATION\n# Bad\n    indented\n\"") {
			t.Errorf("%s: %s", tt.args, got)
		}
	}
}

func TestNewer(t *testing.T) {
	for _, tt := range []struct {
		here, there string
		want        bool
	}{
		{"1.2", "1.10", true}, {"1.10", "1.2", false}, {"1", "1.0.1", true}, {"1.0", "1", false}, {"", "1", true},
		{"v0.24-1-gabc", "v0.24-1-gabc", false}, {"v0.24", "v0.25", true}, {"1.2.3.4", "1.2.3.4", false},
	} {
		if got := newer(&capstanfile.Package{Version: tt.here}, &capstanfile.Package{Version: tt.there}, false); got != tt.want {
			t.Errorf("%q here, %q there: %v", tt.here, tt.there, got)
		}
	}
}
