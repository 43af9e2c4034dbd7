package repo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestPutAndRead(t *testing.T) {
	s := testStore(t)
	if _, _, err := s.Image(t.Context(), "redis"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), s.layoutDir()) {
		t.Fatalf("an empty store says %v", err)
	}
	if _, err := os.Stat(s.root); !errors.Is(err, fs.ErrNotExist) {
		t.Error("reading made the store")
	}
	compressed, err := random.Image(5000, 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]v1.Image{"plain": testImage(t, 1, 2, 1), "a.org/ns/gzip:1": compressed, "none": testImage(t)} {
		entry := put(t, s, name, img)
		digest, err := img.Digest()
		if err != nil || entry.Digest != digest || entry.Name != mustName(t, name) {
			t.Errorf("%s: entry %+v, digest %s, %v", name, entry, digest, err)
		}
		for _, ref := range []string{name, digest.String(), digest.Hex[:6], digest.String()[:20], mustName(t, name).Repository() + "@" + digest.String()} {
			got, e, err := s.Image(t.Context(), ref)
			if err != nil || e != entry {
				t.Fatalf("Image(%s): %+v, %v; want %+v", ref, e, err, entry)
			}
			valid(t, got)
		}
	}
	if e := put(t, s, "plain", testImage(t, 1, 2, 1)); e.Architecture != "amd64" || e.OS != "linux" || e.Created.Year() != 2026 || e.Size < int64(len(layerData(1))) {
		t.Errorf("entry %+v", e)
	}
	for _, dir := range []string{s.root, s.layoutDir(), s.blobsDir(), s.rootsDir()} {
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: mode %v, %v", dir, fi.Mode(), err)
		}
	}
	clean(t, s)
}

func TestListTagRemove(t *testing.T) {
	s, ctx := testStore(t), t.Context()
	put(t, s, "b", testImage(t, 1, 2))
	a := put(t, s, "a", testImage(t, 1, 3))
	if err := s.Tag(ctx, "a", mustName(t, "x/y:2")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "a:latest b:latest x/y:2" {
		t.Fatalf("List: %s", got)
	}
	if _, err := s.Remove(ctx, a.Digest.Hex[:8], RemoveOptions{}); !errors.As(err, new(*SeveralNamesError)) {
		t.Errorf("removing a digest with two names: %v", err)
	}
	used := RemoveOptions{InUse: func(h v1.Hash) []string { return []string{"web"} }}
	done, err := s.Remove(ctx, "a", used)
	if err != nil || len(done.Untagged) != 1 || len(done.Deleted) != 0 {
		t.Errorf("removing one name of two: %+v, %v", done, err)
	}
	if _, err := s.Remove(ctx, "x/y:2", used); !errors.As(err, new(*InUseError)) || !strings.Contains(err.Error(), "web") {
		t.Errorf("removing an image in use: %v", err)
	}
	used.Force = true
	done, err = s.Remove(ctx, "x/y:2", used)
	if err != nil || !slices.Equal(done.Deleted, []v1.Hash{a.Digest}) || done.Freed.Blobs != 3 {
		t.Errorf("removing the last name: %+v, %v", done, err)
	}
	if got := names(t, s); got != "b:latest" {
		t.Errorf("List: %s", got)
	}
	if _, err := s.Remove(ctx, "a", RemoveOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing what is gone: %v", err)
	}
	// A name that moves leaves its old image to Prune.
	put(t, s, "b", testImage(t, 4))
	rep, err := s.Prune(ctx, PruneOptions{})
	if err != nil || rep.Blobs != 4 || rep.Temp != 0 || rep.Bytes < 2*int64(len(layerData(1))) {
		t.Errorf("Prune: %+v, %v", rep, err)
	}
	clean(t, s)
	rep, err = s.Prune(ctx, PruneOptions{Images: true})
	if err != nil || len(rep.Images) != 1 || names(t, s) != "" {
		t.Errorf("Prune of all images: %+v, %v", rep, err)
	}
}

func TestPutRefuses(t *testing.T) {
	s := testStore(t)
	good := testImage(t, 1)
	for want, f := range map[string]func() (Name, v1.Image){
		"no name":          func() (Name, v1.Image) { return Name{}, good },
		"its digest is":    func() (Name, v1.Image) { return mustName(t, "x@"+someDigest), good },
		"outside registri": func() (Name, v1.Image) { return mustName(t, "x"), foreignImage(t) },
		"has digest": func() (Name, v1.Image) {
			return mustName(t, "x"), lyingImage{good, []byte(strings.Repeat("x", len(layerData(1))))}
		},
		"has more": func() (Name, v1.Image) { return mustName(t, "x"), lyingImage{good, make([]byte, 1<<20)} },
		"has 3":    func() (Name, v1.Image) { return mustName(t, "x"), lyingImage{good, []byte("abc")} },
	} {
		name, img := f()
		if _, err := s.Put(t.Context(), name, img); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Put: %v, want %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, mustName(t, "x"), good); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with an ended context: %v", err)
	}
	if got := names(t, s); got != "" {
		t.Errorf("stored nonetheless: %s", got)
	}
	clean(t, s)
}

func foreignImage(t *testing.T) v1.Image {
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer([]byte("x"), types.DockerForeignLayer)})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

type lyingImage struct {
	v1.Image
	content []byte
}

func (l lyingImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	layer, err := l.Image.LayerByDigest(h)
	return lyingLayer{layer, l.content}, err
}

type lyingLayer struct {
	v1.Layer
	content []byte
}

func (l lyingLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.content)), nil
}

func TestLayerWriter(t *testing.T) {
	s, ctx := testStore(t), t.Context()
	w, err := s.LayerWriter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := range slices.Chunk(layerData(7), 777) {
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	layer, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	// Others collecting garbage do not take it away.
	if rep, err := s.Prune(ctx, PruneOptions{}); err != nil || rep.Temp != 0 {
		t.Fatalf("Prune: %+v, %v", rep, err)
	}
	img, err := mutate.AppendLayers(testImage(t, 1), layer)
	if err != nil {
		t.Fatal(err)
	}
	if e := put(t, s, "built", img); e.Size < int64(len(layerData(7))) {
		t.Errorf("entry %+v", e)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	r, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, layerData(7)) {
		t.Errorf("layer after Close: %d bytes, %v", len(got), err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("Write after Commit works")
	}
	clean(t, s)
}

func TestAmbiguousPrefix(t *testing.T) {
	idx := &v1.IndexManifest{}
	for _, hex := range []string{"abcd1", "abcd2"} {
		setEntry(idx, mustName(t, "n:"+hex), v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: hex + strings.Repeat("0", 59)}})
	}
	s := testStore(t)
	if _, _, err := s.find(idx, "abcd"); !errors.As(err, new(*AmbiguousError)) {
		t.Errorf("find: %v", err)
	}
	if found, _, err := s.find(idx, "abcd2"); err != nil || !slices.Equal(found, []int{1}) {
		t.Errorf("find: %v, %v", found, err)
	}
	if _, _, err := s.find(idx, "Bad Name"); !errors.As(err, new(*NameError)) {
		t.Errorf("find: %v", err)
	}
}

func TestBuildRecord(t *testing.T) {
	s, ctx := testStore(t), t.Context()
	e := put(t, s, "x", testImage(t, 1))
	if err := s.PutBuildRecord(ctx, "key 1", e.Digest); err != nil {
		t.Fatal(err)
	}
	if h, ok, err := s.BuildRecord(ctx, "key 1"); h != e.Digest || !ok || err != nil {
		t.Errorf("BuildRecord: %v, %v, %v", h, ok, err)
	}
	if _, ok, err := s.BuildRecord(ctx, "key 2"); ok || err != nil {
		t.Errorf("BuildRecord of another key: %v, %v", ok, err)
	}
	put(t, s, "x", testImage(t, 2))
	if _, ok, err := s.BuildRecord(ctx, "key 1"); ok || err != nil {
		t.Errorf("BuildRecord of a lost image: %v, %v", ok, err)
	}
	clean(t, s)
	if left, err := os.ReadDir(s.buildsDir()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":3,"digest":"` + someDigest + `","annotations":{"org.opencontainers.image.ref.name":"redis:7"}}]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":-1}]}`))
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":[]}`))
	f.Add([]byte(`null`))
	s := &Store{root: f.TempDir()}
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(d v1.Descriptor) {
			if filepath.Dir(s.blobPath(d.Digest)) != s.blobsDir() || d.Size < 0 {
				t.Fatalf("descriptor %+v was let through", d)
			}
		}
		if idx, err := parseIndex(data); err == nil {
			for _, d := range idx.Manifests {
				check(d)
				if n := entryName(d); !n.IsZero() && findName(idx, n) < 0 && n.Digest.Hex == "" {
					t.Fatalf("entry %+v is not found by its name", d)
				}
			}
			_, _, _ = s.find(idx, "e3b0")
		}
		if m, err := parseManifest(data); err == nil {
			for _, d := range blobsOf(m) {
				check(d)
			}
		}
	})
}
