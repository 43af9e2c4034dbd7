package repo

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// variedImage has a plain, a gzip and a zstd layer, the first of them twice.
func variedImage(t testing.TB) v1.Image {
	t.Helper()
	img := testImage(t, 1)
	var zipped, zstded bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	zs, err := zstd.NewWriter(&zstded)
	if err != nil {
		t.Fatal(err)
	}
	for w, n := range map[io.WriteCloser]int{zw: 2, zs: 3} {
		if _, err := w.Write(layerData(n)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
	}
	for _, add := range []mutate.Addendum{
		{Layer: diffed{static.NewLayer(zipped.Bytes(), types.OCILayer), layerData(2)}, MediaType: types.OCILayer},
		{Layer: diffed{static.NewLayer(zstded.Bytes(), types.OCILayerZStd), layerData(3)}, MediaType: types.OCILayerZStd},
		{Layer: static.NewLayer(layerData(1), types.OCIUncompressedLayer), MediaType: types.OCIUncompressedLayer},
	} {
		if img, err = mutate.Append(img, add); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// diffed is a static layer that knows what it holds.
type diffed struct {
	v1.Layer
	plain []byte
}

func (d diffed) DiffID() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(d.plain))
	return h, err
}

func save(t testing.TB, s *Store, format string, refs ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Save(t.Context(), &buf, format, refs...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestSaveLoad(t *testing.T) {
	s := testStore(t)
	app := put(t, s, "team/app:1", variedImage(t))
	if err := s.Tag(t.Context(), "team/app:1", mustName(t, "registry.example.org/app:2")); err != nil {
		t.Fatal(err)
	}
	put(t, s, "other", testImage(t, 1, 5))
	for _, format := range []string{DockerArchive, OCIArchive} {
		archive := save(t, s, format, "team/app:1", "registry.example.org/app:2", "other")
		if again := save(t, s, format, "team/app:1", "registry.example.org/app:2", "other"); !bytes.Equal(archive, again) {
			t.Errorf("%s: the same images give other bytes", format)
		}
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		if _, err := w.Write(archive); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{archive, zipped.Bytes()} {
			to := testStore(t)
			entries, err := to.Load(t.Context(), bytes.NewReader(data), Name{})
			if err != nil || len(entries) != 3 {
				t.Fatalf("%s: Load: %+v, %v", format, entries, err)
			}
			if got := names(t, to); got != "other:latest registry.example.org/app:2 team/app:1" {
				t.Errorf("%s: loaded %s", format, got)
			}
			img, e, err := to.Image(t.Context(), "team/app:1")
			if err != nil || format == OCIArchive && e.Digest != app.Digest {
				t.Fatalf("%s: %+v, %v; it was saved as %s", format, e, err, app.Digest)
			}
			sameImage(t, img, variedImage(t))
			clean(t, to)
			if _, err := to.Load(t.Context(), bytes.NewReader(data), Name{}); err != nil {
				t.Errorf("%s: Load again: %v", format, err)
			}
			clean(t, to)
		}
	}
	clean(t, s)
}

// sameImage compares configs and the layers' content.
func sameImage(t *testing.T, got, want v1.Image) {
	t.Helper()
	id, err := got.ConfigName()
	wantID, werr := want.ConfigName()
	if err != nil || werr != nil || id != wantID {
		t.Errorf("config %s instead of %s; %v, %v", id, wantID, err, werr)
	}
	hasLayers(t, got, 1, 2, 3, 1)
}

func hasLayers(t *testing.T, img v1.Image, want ...int) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil || len(layers) != len(want) {
		t.Fatalf("%d layers instead of %d, %v", len(layers), len(want), err)
	}
	for i, n := range want {
		r, err := layers[i].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(data, layerData(n)) {
			t.Errorf("layer %d: %d bytes, %v", i, len(data), err)
		}
	}
}

func TestLoadNames(t *testing.T) {
	s := testStore(t)
	put(t, s, "a", testImage(t, 1))
	put(t, s, "b", testImage(t, 2))
	to := testStore(t)
	load := func(data []byte, name string) error {
		var n Name
		if name != "" {
			n = mustName(t, name)
		}
		_, err := to.Load(t.Context(), bytes.NewReader(data), n)
		return err
	}
	for _, format := range []string{DockerArchive, OCIArchive} {
		if err := load(save(t, s, format, "a"), "x:"+format); err != nil {
			t.Errorf("%s, with another name: %v", format, err)
		}
		err := load(save(t, s, format, "a", "b"), "x")
		if err == nil || !strings.Contains(err.Error(), "has 2 images") {
			t.Errorf("%s, one name for two: %v", format, err)
		}
	}
	unnamed := bytes.Replace(save(t, s, DockerArchive, "a"), []byte(`["a:latest"]`), []byte(`[          ]`), 1)
	err := load(unnamed, "")
	var hinted interface{ Hint() string }
	if err == nil || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--name") {
		t.Errorf("an image without a name: %v", err)
	}
	if err := load(unnamed, "named"); err != nil {
		t.Errorf("an image that is given a name: %v", err)
	}
	if got := names(t, to); got != "named:latest x:docker-archive x:oci" {
		t.Errorf("loaded %s", got)
	}
	clean(t, to)
}

// tarFile is an entry of an archive made for a test.
type tarFile struct {
	hdr  tar.Header
	data []byte
}

func file(name string, data []byte) tarFile {
	return tarFile{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}, data}
}

func tarOf(t testing.TB, files ...tarFile) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if err := w.WriteHeader(&f.hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// The archives of Docker before 25: a directory for each layer, links among
// them, and configs named by their digest.
func TestLoadLegacyDocker(t *testing.T) {
	config, err := testImage(t, 1, 1).RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		t.Fatal(err)
	}
	data := tarOf(t,
		tarFile{hdr: tar.Header{Name: "aa/", Typeflag: tar.TypeDir, Mode: 0o755}},
		file("aa/VERSION", []byte("1.0")), file("aa/layer.tar", layerData(1)),
		tarFile{hdr: tar.Header{Name: "bb/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../aa/layer.tar"}},
		tarFile{hdr: tar.Header{Name: "cc/layer.tar", Typeflag: tar.TypeLink, Linkname: "bb/layer.tar"}},
		file("./"+h.Hex+".json", config),
		file("manifest.json", fmt.Appendf(nil, `[{"Config":"%s.json","RepoTags":["old:1"],"Layers":["aa/layer.tar","cc/layer.tar"]}]`, h.Hex)),
		file("repositories", []byte(`{}`)),
	)
	s := testStore(t)
	if _, err := s.Load(t.Context(), bytes.NewReader(data), Name{}); err != nil {
		t.Fatal(err)
	}
	img, _, err := s.Image(t.Context(), "old:1")
	if err != nil {
		t.Fatal(err)
	}
	valid(t, img)
	clean(t, s)
}

func TestLoadRefuses(t *testing.T) {
	s := testStore(t)
	put(t, s, "app", testImage(t, 1, 2))
	docker, oci := save(t, s, DockerArchive, "app"), save(t, s, OCIArchive, "app")
	manifest := func(config, layer string) tarFile {
		return file("manifest.json", fmt.Appendf(nil, `[{"Config":%q,"RepoTags":["x"],"Layers":[%q]}]`, config, layer))
	}
	config, err := testImage(t, 1).RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	blob := []byte("{}")
	d := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d}`, strings.Repeat("ab", 32), len(blob))
	link := func(name, to string) tarFile {
		return tarFile{hdr: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}}
	}
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(docker); err != nil || zw.Close() != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(zipped.Bytes())
	damaged[len(damaged)-6] ^= 1
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"nothing", "has neither manifest.json nor index.json", nil},
		{"no tar", "is no tar", []byte(strings.Repeat("no tar at all ", 100))},
		{"an empty tar", "has neither", tarOf(t)},
		{"other files", "has neither", tarOf(t, file("etc/passwd", []byte("x")))},
		{"cut docker", "ends too early", docker[:len(docker)/2]},
		{"cut oci", "ends too early", oci[:len(oci)/2]},
		{"cut gzip", "ends too early", zipped.Bytes()[:zipped.Len()/2]},
		{"damaged gzip", "is damaged: gzip: invalid checksum", damaged},
		{"changed layer", "whose content has digest", bytes.Replace(docker, []byte("layer 1\n"), []byte("layer 9\n"), 1)},
		{"changed blob", "whose content has digest", bytes.Replace(oci, []byte("layer 1\n"), []byte("layer 9\n"), 1)},
		{"changed config", "digest", bytes.Replace(docker, []byte(`"os":"linux"`), []byte(`"os":"lunix"`), 1)},
		{"a name up", "leads out of it", tarOf(t, file("../../etc/passwd", []byte("x")))},
		{"an absolute name", "leads out of it", tarOf(t, file("/etc/passwd", []byte("x")))},
		{"a link up", "leads out of it", tarOf(t, link("a/b", "../../etc/passwd"))},
		{"a circle", "a circle of links", tarOf(t, file("c.json", config), link("a", "b"), link("b", "a"), manifest("c.json", "a"))},
		{"an absolute layer", "leads out of it", tarOf(t, file("c.json", config), manifest("c.json", "/etc/passwd"))},
		{"an absent layer", "lacks the file", tarOf(t, file("c.json", config), manifest("c.json", "a"))},
		{"a device", "neither a file nor a link", tarOf(t, tarFile{hdr: tar.Header{Name: "a", Typeflag: tar.TypeChar}})},
		{"twice", "has a twice", tarOf(t, file("a", nil), file("./a", nil))},
		{"no config", "a config c.json that is none", tarOf(t, file("c.json", []byte("[")), file("a", nil), manifest("c.json", "a"))},
		{"too few layers", "has 1 layers for the 0", tarOf(t, file("c.json", []byte("{}")), file("a", nil), manifest("c.json", "a"))},
		{"a wrong config", "whose digest is", tarOf(t, file(strings.Repeat("ab", 32)+".json", config), manifest(strings.Repeat("ab", 32)+".json", "a"))},
		{"a wrong manifest", "that is none", tarOf(t, file("manifest.json", []byte(`{"a":1}`)))},
		{"no images", "has no images", tarOf(t, file("manifest.json", []byte(`[]`)))},
		{"an empty index", "has no images", tarOf(t, file("index.json", []byte(`{"schemaVersion":2,"manifests":[]}`)))},
		{"a wrong index", "has an index.json that", tarOf(t, file("index.json", []byte(`{"schemaVersion":1}`)))},
		{"an absent blob", "lacks the file", tarOf(t, file("index.json", []byte(`{"schemaVersion":2,"manifests":[`+d+`]}`)))},
		{"a wrong blob", "whose content has digest", tarOf(t, file("blobs/sha256/"+strings.Repeat("ab", 32), blob), file("index.json", []byte(`{"schemaVersion":2,"manifests":[`+d+`]}`)))},
		{"a wrong size", "of 3 bytes instead of 2", tarOf(t, file("blobs/sha256/"+strings.Repeat("ab", 32), []byte("{ }")), file("index.json", []byte(`{"schemaVersion":2,"manifests":[`+d+`]}`)))},
		{"a huge document", "of more than 8 MiB", tarOf(t, file("manifest.json", make([]byte, maxDocument+1)))},
		{"a long name", "a name of more than", tarOf(t, file(strings.Repeat("a/", 600)+"b", nil))},
		{"an endless tail", "goes on after its end", append(bytes.Clone(docker), make([]byte, maxTrailing+1)...)},
		{"a bad tag", "upper-case", tarOf(t, file("c.json", config), file("a", layerData(1)),
			file("manifest.json", []byte(`[{"Config":"c.json","RepoTags":["X"],"Layers":["a"]}]`)))},
	} {
		to := testStore(t)
		_, err := to.Load(t.Context(), bytes.NewReader(c.data), Name{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
		if got := names(t, to); got != "" {
			t.Errorf("%s: left %s", c.name, got)
		}
		if left, err := os.ReadDir(to.tmpDir()); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", c.name, left, err)
		}
	}
}

// A file with holes of the size of a disk takes nothing but its map.
func TestLoadRefusesHoles(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	hdr := tar.Header{Name: "a", Typeflag: tar.TypeReg, Format: tar.FormatPAX, Size: 512}
	if err := w.WriteHeader(&hdr); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(append([]byte("1\n9223372036854775000\n0\n"), make([]byte, 512-24)...)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	// archive/tar writes no such file: the extended header is put before it.
	pax := "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n21 GNU.sparse.name=a\n43 GNU.sparse.realsize=9223372036854775000\n"
	var data bytes.Buffer
	ext := tar.NewWriter(&data)
	if err := ext.WriteHeader(&tar.Header{Name: "PaxHeaders/a", Typeflag: tar.TypeReg, Size: int64(len(pax))}); err != nil {
		t.Fatal(err)
	}
	if _, err := ext.Write([]byte(pax)); err != nil || ext.Flush() != nil {
		t.Fatal(err)
	}
	head := data.Bytes()
	head[156] = tar.TypeXHeader
	checksum(head[:512])
	s := testStore(t)
	_, err := s.Load(t.Context(), io.MultiReader(bytes.NewReader(head), &buf), Name{})
	if err == nil || !strings.Contains(err.Error(), "with holes") {
		t.Errorf("Load: %v", err)
	}
}

// checksum mends a tar header's sum.
func checksum(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func TestSaveRefuses(t *testing.T) {
	s := testStore(t)
	e := put(t, s, "app", testImage(t, 1))
	if err := s.Save(t.Context(), io.Discard, "zip", "app"); err == nil || !strings.Contains(err.Error(), `"zip"`) {
		t.Errorf("zip: %v", err)
	}
	if err := s.Save(t.Context(), io.Discard, OCIArchive, "absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Save(ctx, io.Discard, OCIArchive, "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	img, _, err := s.Image(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	path := s.blobPath(m.Layers[0].Digest)
	data, err := os.ReadFile(path)
	if err == nil {
		data[1000] ^= 1
		err = errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), io.Discard, DockerArchive, e.Digest.String()); !errors.As(err, new(*CorruptError)) {
		t.Errorf("a corrupt layer: %v", err)
	}
}

// TestArchivesOfSkopeo exchanges archives with skopeo in both directions.
func TestArchivesOfSkopeo(t *testing.T) {
	s := testStore(t)
	put(t, s, "registry.example.org/team/app:1", variedImage(t))
	config, err := variedImage(t).ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for format, scheme := range map[string]string{DockerArchive: "docker-archive:", OCIArchive: "oci-archive:"} {
		ours := filepath.Join(dir, format+".tar")
		if err := os.WriteFile(ours, save(t, s, format, "registry.example.org/team/app:1"), 0o600); err != nil {
			t.Fatal(err)
		}
		layout := filepath.Join(dir, format)
		skopeo(t, "copy", scheme+ours+":registry.example.org/team/app:1", "oci:"+layout+":copied")
		var seen struct{ Config struct{ Digest v1.Hash } }
		raw := skopeo(t, "inspect", "--raw", "oci:"+layout+":copied")
		if err := json.Unmarshal(raw, &seen); err != nil || format == OCIArchive && seen.Config.Digest != config {
			t.Errorf("%s: skopeo has %s, %v; want config %s", format, raw, err, config)
		}
		theirs := filepath.Join(dir, "theirs-"+format+".tar")
		skopeo(t, "copy", "oci:"+layout+":copied", scheme+theirs+":registry.example.org/theirs:"+format)
		f, err := os.Open(theirs)
		if err != nil {
			t.Fatal(err)
		}
		to := testStore(t)
		entries, err := to.Load(t.Context(), f, Name{})
		if err = errors.Join(err, f.Close()); err != nil || len(entries) != 1 {
			t.Fatalf("loading skopeo's %s: %+v, %v", format, entries, err)
		}
		img, _, err := to.Image(t.Context(), "registry.example.org/theirs:"+format)
		if err != nil {
			t.Fatal(err)
		}
		hasLayers(t, img, 1, 2, 3, 1)
		clean(t, to)
	}
}

func FuzzLoad(f *testing.F) {
	s := testStore(f)
	put(f, s, "app", testImage(f, 1))
	for _, format := range []string{DockerArchive, OCIArchive} {
		f.Add(save(f, s, format, "app"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		to := testStore(t)
		_, err := to.Load(t.Context(), bytes.NewReader(data), Name{})
		if err != nil {
			if got := names(t, to); got != "" {
				t.Fatalf("%v, and left %s", err, got)
			}
			return
		}
		healthy(t, to)
	})
}
