// Package imagetest makes images that are hard to flatten, and holds what
// image.Flatten makes of an image against what umoci unpacks of it.
package imagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"capstan/internal/image"
	"capstan/internal/image/erofs"
	"capstan/internal/image/erofs/erofstest"
)

// refName names an image in a layout: OCI image specification, annotations.md.
const refName = "org.opencontainers.image.ref.name"

// NeedRoot ends a test that needs root, for devices and owners: as failed
// where CI is set, as it is by all common services, else as skipped.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("only root can unpack devices and owners, and CI is to test that")
	}
	t.Skip("only root can unpack devices and owners: run this test as root")
}

// EqualsUmoci is LayoutEqualsUmoci for an image that lies in no layout.
func EqualsUmoci(t testing.TB, img v1.Image) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "layout")
	dir, err := layout.Write(name, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.AppendImage(img, layout.WithAnnotations(map[string]string{refName: "test"})); err != nil {
		t.Fatal(err)
	}
	LayoutEqualsUmoci(t, name, "test")
}

// LayoutEqualsUmoci fails the test where the flattened root of an image in an
// OCI layout is not, file by file, what umoci unpacks. Of a directory that
// umoci gave the time of the unpacking, because no layer says another or
// because it removed something below, the time is not compared: the layers'
// times must lie in the past.
func LayoutEqualsUmoci(t testing.TB, dir, tag string) {
	t.Helper()
	start := time.Now().Truncate(time.Second)
	want := Umoci(t, dir, tag)
	got := Flattened(t, read(t, dir, tag))
	times := map[string]time.Time{}
	for _, f := range got {
		times[f.Name] = f.ModTime
	}
	for i := range want {
		f := &want[i]
		if own, ok := times[f.Name]; ok && f.Mode.IsDir() && !f.ModTime.Before(start) && own.Before(start) {
			f.ModTime = own
		}
	}
	if d := erofstest.Diff(want, got); d != "" {
		t.Errorf("umoci unpacks another tree:\n%s", d)
	}
	t.Logf("%d files", len(got))
}

// read opens the image of that tag in a layout.
func read(t testing.TB, dir, tag string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	images, err := partial.FindImages(index, match.Name(tag))
	if err != nil || len(images) != 1 {
		t.Fatalf("%d images %q in %s, %v", len(images), tag, dir, err)
	}
	return images[0]
}

// Umoci lists what umoci unpacks of an image in an OCI layout.
func Umoci(t testing.TB, layout, tag string) []erofstest.File {
	t.Helper()
	NeedRoot(t)
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Fatal("umoci is missing: apt-get install umoci")
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	// The mask applies to directories that no layer describes.
	cmd := exec.Command("sh", "-c", `umask 022; exec umoci unpack --image "$0" "$1"`, layout+":"+tag, bundle)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("umoci unpack: %v\n%s", err, out)
	}
	files, err := erofstest.FromDir(filepath.Join(bundle, "rootfs"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Flattened lists what image.Flatten makes of an image.
func Flattened(t testing.TB, img v1.Image) []erofstest.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "root.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := image.Flatten(t.Context(), img, f); err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	files, err := erofstest.FromImage(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return files
}
