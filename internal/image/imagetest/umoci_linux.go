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

	"capstan/internal/image"
	"capstan/internal/image/erofs"
	"capstan/internal/image/erofs/erofstest"
)

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

// EqualsUmoci fails the test where the flattened root of img is not, file by
// file, what umoci unpacks. Of a directory that umoci gave the time of the
// unpacking, because no layer says another or because it removed something
// below, the time is not compared: the layers' times must lie in the past.
func EqualsUmoci(t testing.TB, img v1.Image) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "layout")
	dir, err := layout.Write(name, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	tag := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "test"})
	if err := dir.AppendImage(img, tag); err != nil {
		t.Fatal(err)
	}
	start := time.Now().Truncate(time.Second)
	want := Umoci(t, name, "test")
	got := Flattened(t, img)
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
