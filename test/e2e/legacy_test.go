//go:build e2e

package e2e

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/image/disk/disktest"
	"capstan/internal/repo/legacy/legacytest"
)

const oldIndex = "format_version: \"1\"\nversion: 1.10\ncreated: 2015-04-01 12:00\ndescription: an old one\nbuild: make\n"

// writeFiles writes files below a directory.
func writeFiles(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOldRepository: images come from an old repository over HTTP, listed in
// pages, and run.
func TestOldRepository(t *testing.T) {
	c := newCapstan(t)
	bucket := t.TempDir()
	qemu := writeDisk(t, disktest.BIOS("/from.qemu", false), "-O", "qcow2")
	vbox := writeDisk(t, disktest.BIOS("/from.vbox", false), "-O", "vdi")
	whole := gzipped(t, qemu)
	writeFiles(t, bucket, map[string][]byte{
		"team/app/index.yaml": []byte(oldIndex), "team/app/app.qemu.gz": whole, "team/app/app.vbox.gz": gzipped(t, vbox),
		"team/boxed/index.yaml": []byte(oldIndex), "team/boxed/boxed.vbox.gz": gzipped(t, vbox),
		"team/cut/index.yaml": []byte(oldIndex), "team/cut/cut.qemu.gz": whole[:len(whole)/2],
		"team/bare/bare.qemu.gz": whole, "packages/x.mpm": []byte("x"),
	})
	server := httptest.NewServer(&legacytest.Server{Files: os.DirFS(bucket), Page: 2})
	defer server.Close()
	if got := c.must(t, "search", "-u", server.URL, "--format", "{{.Name}}"); got != "team/app\nteam/bare\nteam/boxed\nteam/cut\n" {
		t.Errorf("search lists %q", got)
	}
	r := c.run(t, "pull", "-u", server.URL, "team/app")
	if r.status != 0 || !strings.HasPrefix(r.stdout, "sha256:") || !strings.Contains(r.stderr, "without checksums") {
		t.Fatalf("pull: %+v", r)
	}
	if got := c.must(t, "run", "--rm", "team/app"); got != "/from.qemu\nstarts: 1\n" {
		t.Errorf("it says %q", got)
	}
	if got := c.must(t, "inspect", "--format", `{{index .Annotations "org.opencontainers.image.version"}} {{.Created.Year}}`, "team/app"); got != "1.10 2015\n" {
		t.Errorf("inspect: %q", got)
	}
	for name, says := range map[string]string{"team/cut": "unexpected EOF", "team/none": "has no image", "none": "namespace/name"} {
		if r := c.run(t, "pull", "-u", server.URL, name); r.status != 1 || !strings.Contains(r.stderr, says) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := c.run(t, "pull", "-u", "http://old.example.org/", "team/app"); r.status != 1 || !strings.Contains(r.stderr, "not encrypted") {
		t.Errorf("plain HTTP: %+v", r)
	}
	// As a setting, it is where run looks first.
	writeFiles(t, c.root, map[string][]byte{"config.yaml": []byte("repo_url: " + server.URL + "\nqemu_aio_type: native\nrelease_tag: any\n")})
	if got := c.must(t, "run", "--rm", "team/boxed"); got != "/from.vbox\nstarts: 1\n" {
		t.Errorf("it says %q", got)
	}
	if r := c.run(t, "--offline", "run", "--rm", "team/bare"); r.status == 0 || !strings.Contains(r.stderr, "offline") {
		t.Errorf("offline: %+v", r)
	}
	c.checkNothingLeft(t)
}

// TestOldTree: what old Capstan had in the same root is listed, run, and
// copied once.
func TestOldTree(t *testing.T) {
	c := newCapstan(t)
	qemu := read(t, writeDisk(t, disktest.BIOS("/from.tree", false), "-O", "qcow2"))
	writeFiles(t, c.root, map[string][]byte{
		"repository/cloudius/cassandra/cassandra.qemu": qemu, "repository/cloudius/cassandra/index.yaml": []byte(oldIndex),
		"repository/mine/mine.qemu": qemu, "repository/mine/mine.qemu.cache": []byte("/x: y\n"),
		"repository/osv-loader/osv-loader.gce": []byte("gs://bucket/x.tar.gz"),
		"instances/qemu/old/osv.config":        []byte("name: old\n"),
		"config.yaml":                          []byte("disable_kvm: true\nqemu_aio_type: threads\nrelease_tag: v0.57.0\n"),
	})
	if got := c.must(t, "images", "-q"); got != "cloudius/cassandra:latest\nmine:latest\n" {
		t.Errorf("images: %q", got)
	}
	if got := c.must(t, "images"); strings.Count(got, "(old)") != 2 {
		t.Errorf("images: %s", got)
	}
	for range 2 {
		// Its own image, not what the name stands for today; offline all the more.
		if got := c.must(t, "--offline", "run", "--rm", "cloudius/cassandra"); got != "/from.tree\nstarts: 1\n" {
			t.Errorf("it says %q", got)
		}
	}
	if got := c.must(t, "images"); strings.Count(got, "(old)") != 1 {
		t.Errorf("after a run: %s", got)
	}
	if got := c.must(t, "import", "--all"); strings.Count(got, "sha256:") != 1 {
		t.Errorf("import --all: %q", got)
	}
	if err := os.RemoveAll(filepath.Join(c.root, "repository")); err != nil {
		t.Fatal(err)
	}
	if got := c.must(t, "run", "--rm", "mine"); got != "/from.tree\nstarts: 1\n" {
		t.Errorf("it says %q", got)
	}
	if got := c.must(t, "ps", "-a", "-q"); got != "" {
		t.Errorf("old instances are listed: %q", got)
	}
	if err := os.RemoveAll(filepath.Join(c.root, "instances", "qemu")); err != nil {
		t.Fatal(err)
	}
	c.checkNothingLeft(t)
}
