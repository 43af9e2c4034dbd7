//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// TestPlatforms holds that of an image for several platforms the guest's one
// runs, wherever it stands in the index, and that one which lacks it says so.
func TestPlatforms(t *testing.T) {
	c := newCapstan(t)
	arm, amd := platformImage(t, "arm64"), platformImage(t, "amd64")
	for name, images := range map[string][]v1.Image{"first": {amd, arm}, "last": {arm, amd}} {
		c.must(t, "load", "-i", archiveOf(t, name, images...))
		if out := c.must(t, "run", "--rm", name, "/probe", "env"); !slices.Contains(strings.Split(out, "\n"), "IMAGE=amd64") {
			t.Errorf("%s: not the image for amd64 has run:\n%s", name, out)
		}
	}
	for name, r := range map[string]result{
		"an index":  c.run(t, "load", "-q", "-i", archiveOf(t, "none", arm)),
		"a program": foreignProgram(t, c),
	} {
		if r.status == 0 || !strings.Contains(r.stderr, "amd64") || strings.Count(r.stderr, "\n") > 2 {
			t.Errorf("%s for another platform: status %d, %q", name, r.status, r.stderr)
		}
	}
}

// foreignProgram builds and runs an image that is wholly another platform's.
func foreignProgram(t *testing.T, c *capstan) result {
	t.Helper()
	dir := t.TempDir()
	buildProbe(t, filepath.Join(dir, "probe"), "arm64")
	write(t, dir, "Capstanfile", "cmdline: /probe\nfiles:\n  /probe: probe\narch: arm64\n")
	c.must(t, "build", "foreign", dir)
	return c.run(t, "run", "--rm", "foreign")
}

// TestBase holds what a Capstanfile with a base keeps of it, changes and adds.
func TestBase(t *testing.T) {
	c := newProbe(t)
	dir := t.TempDir()
	write(t, dir, "Capstanfile", "base: "+probe+"\nfiles:\n  /etc/group: group\n  /srv/new: new\nenv:\n  CHANGED: after\n  ADDED: here\nworkdir: /srv\nuser: mate\n")
	write(t, dir, "group", "changed:x:1001:\n")
	write(t, dir, "new", "added")
	write(t, filepath.Join(dir, "ROOTFS", "etc"), "passwd", "root:x:0:0::/root:/bin/sh\n")
	c.must(t, "build", "upon", dir)
	for _, tt := range []struct{ args, want string }{
		{"read /etc/group", "changed:x:1001:\n"},
		{"read /srv/new", "added"},
		{"read /etc/passwd", "root:x:0:0::/root:/bin/sh\n"},
	} {
		if out := c.must(t, append([]string{"run", "--rm", "-u", "0", "upon", "/probe"}, strings.Fields(tt.args)...)...); out != tt.want {
			t.Errorf("%s printed %q, want %q", tt.args, out, tt.want)
		}
	}
	out := c.must(t, "run", "--rm", "-u", "1000", "upon", "/probe", "env")
	for _, want := range []string{"FROM_IMAGE=kept", "CHANGED=after", "ADDED=here"} {
		if !slices.Contains(strings.Split(out, "\n"), want) {
			t.Errorf("no %s in the environment:\n%s", want, out)
		}
	}
	if out := c.must(t, "run", "--rm", "-u", "1000", "upon", "/probe", "where"); !strings.HasPrefix(out, "dir /srv uid 1000 ") {
		t.Errorf("where: %q", out)
	}
	// The base stays as it was, and its command is the new image's.
	if out := c.must(t, "run", "--rm", probe, "/probe", "read", "/etc/group"); !strings.HasPrefix(out, "root:") {
		t.Errorf("the base has changed: %q", out)
	}
	if out := c.must(t, "run", "--rm", "-u", "0", "upon"); out != "hello\n" {
		t.Errorf("the base's command printed %q", out)
	}
	if r := c.run(t, "run", "--rm", "upon"); r.status != 126 || !strings.Contains(r.stderr, "mate") {
		t.Errorf("a user whose account the new image has taken away: status %d, %q", r.status, r.stderr)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// platformImage is the probe's image for one platform, which its environment
// names.
func platformImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	file := filepath.Join(t.TempDir(), "probe")
	buildProbe(t, file, arch)
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Cmd: []string{"/probe"}, Env: []string{"IMAGE=" + arch}},
	})
	if err != nil {
		t.Fatal(err)
	}
	added, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, added); err != nil {
		t.Fatal(err)
	}
	return img
}

// archiveOf writes an archive with one index of that name.
func archiveOf(t *testing.T, name string, images ...v1.Image) string {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: cfg.Platform()}})
	}
	dir := t.TempDir()
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name + ":latest"})); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "archive.tar")
	if out, err := exec.Command("tar", "-C", filepath.Join(dir, "layout"), "-cf", archive, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return archive
}
