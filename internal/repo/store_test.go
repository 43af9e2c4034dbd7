package repo

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
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

// layerData is the content of a test layer: a tar of one file, small and
// different for each n.
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

// testImage makes an image of plain layers; equal arguments give equal images.
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

// healthy fails the test unless the store has nothing wrong with it.
func healthy(t testing.TB, s *Store) {
	t.Helper()
	for _, p := range s.Check(t.Context(), true) {
		t.Errorf("store: %s (%s; %v)", p.Text, p.Hint, p.Images)
	}
}

// valid fails the test unless img is what its digests say. The validator of
// go-containerregistry takes every layer for gzip; it gets the images that
// have such layers.
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

// clean fails the test unless pruning leaves only what images need.
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

// lyingImage has layers whose content is not what their digests say.
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

// TestOtherTools reads the store with other programs, and what they write.
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

// TestMultiPlatform stores an index as other tools do.
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

func BenchmarkImage(b *testing.B) {
	s := testStore(b)
	for i := range 300 {
		put(b, s, fmt.Sprintf("team/app%d", i), testImage(b, i%7))
	}
	b.ResetTimer()
	for b.Loop() {
		if _, _, err := s.Image(b.Context(), "team/app150"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	s := testStore(b)
	for i := range 300 {
		put(b, s, fmt.Sprintf("team/app%d", i), testImage(b, i))
	}
	b.ResetTimer()
	for b.Loop() {
		if _, err := s.List(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPut is what storing a small build costs.
func BenchmarkPut(b *testing.B) {
	s := testStore(b)
	for i := 0; b.Loop(); i++ {
		w, err := s.LayerWriter(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(w, "build %d", i)
		layer, err := w.Commit()
		if err != nil {
			b.Fatal(err)
		}
		img, err := mutate.AppendLayers(testImage(b, 1), layer)
		if err != nil {
			b.Fatal(err)
		}
		put(b, s, "build", img)
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
