package repo

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func testStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "capstan"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func layerData(n int) []byte {
	content := bytes.Repeat(fmt.Appendf(nil, "layer %d\n", n), 2000+n)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("file", n), Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func testImage(t testing.TB, layers ...int) v1.Image {
	t.Helper()
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	var add []v1.Layer
	for _, n := range layers {
		add = append(add, static.NewLayer(layerData(n), types.OCIUncompressedLayer))
	}
	img, err := mutate.AppendLayers(base, add...)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.ConfigFile(img, configOf(t, img))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func configOf(t testing.TB, img v1.Image) *v1.ConfigFile {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "amd64"
	c.Created = v1.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	return c
}

func put(t testing.TB, s *Store, name string, img v1.Image) Entry {
	t.Helper()
	e, err := s.Put(t.Context(), mustName(t, name), img)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func healthy(t testing.TB, s *Store) {
	t.Helper()
	for _, p := range s.Check(t.Context(), true) {
		t.Errorf("store: %s (%s; %v)", p.Text, p.Hint, p.Images)
	}
}

func valid(t testing.TB, img v1.Image) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	plain := false
	for _, l := range layers {
		mediaType, err := l.MediaType()
		if err != nil {
			t.Fatal(err)
		}
		plain = plain || mediaType == types.OCIUncompressedLayer
		want, err := l.DiffID()
		if err != nil {
			t.Error(err)
		}
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := v1.SHA256(r)
		if err = errors.Join(err, r.Close()); err != nil || got != want {
			t.Errorf("layer %s has content %s, %v", want, got, err)
		}
	}
	opts := []validate.Option{}
	if plain {
		opts = append(opts, validate.Fast)
	}
	if err := validate.Image(img, opts...); err != nil {
		t.Error(err)
	}
}

func clean(t testing.TB, s *Store) {
	t.Helper()
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	healthy(t, s)
	if left, err := os.ReadDir(s.tmpDir()); err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
	idx, err := s.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	live := map[string]bool{}
	for _, d := range idx.Manifests {
		if err := s.mark(d, live, 0); err != nil {
			t.Fatal(err)
		}
	}
	blobs, err := os.ReadDir(s.blobsDir())
	if err != nil || len(blobs) != len(live) {
		t.Errorf("%d blobs after pruning, %d are needed, %v", len(blobs), len(live), err)
	}
	roots, err := os.ReadDir(s.rootsDir())
	for _, r := range roots {
		if !live[strings.TrimSuffix(r.Name(), rootSuffix)] {
			t.Errorf("left in roots: %s", r.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func names(t *testing.T, s *Store) string {
	t.Helper()
	list, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name.String())
	}
	return strings.Join(names, " ")
}
