package repo

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func TestOtherTools(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Fatal("this test needs skopeo: apt-get install skopeo")
	}
	s := testStore(t)
	img, err := random.Image(2000, 2)
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, configOf(t, img))
	if err != nil {
		t.Fatal(err)
	}
	entry := put(t, s, "localhost:5000/team/app:1.2", img)
	put(t, s, "redis", testImage(t, 1))

	out := skopeo(t, "inspect", "oci:"+s.layoutDir()+":localhost:5000/team/app:1.2")
	var seen struct {
		Digest, Architecture string
		Layers               []string
	}
	if err := json.Unmarshal(out, &seen); err != nil || seen.Digest != entry.Digest.String() || len(seen.Layers) != 2 || seen.Architecture != "amd64" {
		t.Errorf("skopeo inspect: %s, %v", out, err)
	}
	dst := filepath.Join(t.TempDir(), "copy")
	skopeo(t, "copy", "oci:"+s.layoutDir()+":redis:latest", "oci:"+dst+":copied")
	path, err := layout.FromPath(s.layoutDir())
	if err != nil {
		t.Fatal(err)
	}
	if idx, err := path.ImageIndex(); err != nil || validate.Index(idx, validate.Fast) != nil {
		t.Errorf("go-containerregistry: %v, %v", err, validate.Index(idx, validate.Fast))
	}

	skopeo(t, "copy", "oci:"+dst+":copied", "oci:"+s.layoutDir()+":foreign")
	got, e, err := s.Image(t.Context(), "foreign")
	if err != nil || e.Name != mustName(t, "foreign") {
		t.Fatalf("Image of what skopeo wrote: %+v, %v", e, err)
	}
	valid(t, got)
	if got := names(t, s); got != "foreign:latest localhost:5000/team/app:1.2 redis:latest" {
		t.Errorf("List: %s", got)
	}
	clean(t, s)
}

func skopeo(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %v: %v: %s", args, err, &stderr)
	}
	return out
}

func TestMultiPlatform(t *testing.T) {
	s := testStore(t)
	put(t, s, "seed", testImage(t, 9))
	var adds []mutate.IndexAddendum
	for i, arch := range []string{"s390x", "arm64", "amd64"} {
		adds = append(adds, mutate.IndexAddendum{Add: testImage(t, i), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	path, err := layout.FromPath(s.layoutDir())
	if err == nil {
		err = path.AppendIndex(mutate.AppendManifests(empty.Index, adds...), layout.WithAnnotations(map[string]string{refName: "multi:1"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	clean(t, s)
	img, e, err := s.Image(t.Context(), "multi:1")
	if err != nil || !e.MediaType.IsIndex() {
		t.Fatalf("Image: %+v, %v", e, err)
	}
	valid(t, img)
	if done, err := s.Remove(t.Context(), "multi:1", RemoveOptions{}); err != nil || done.Freed.Blobs < 7 {
		t.Errorf("Remove: %+v, %v", done, err)
	}
	clean(t, s)
}
