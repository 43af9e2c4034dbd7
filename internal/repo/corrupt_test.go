package repo

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestCorrupt damages each kind of file in each way, and expects that reading
// says so, that Check finds it, and that following the hint mends it.
func TestCorrupt(t *testing.T) {
	damages := map[string]func(path string) error{
		"flipped":   func(p string) error { return overwrite(p, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }) },
		"truncated": func(p string) error { return overwrite(p, func(b []byte) []byte { return b[:len(b)/2] }) },
		"longer":    func(p string) error { return overwrite(p, func(b []byte) []byte { return append(b, 'x') }) },
		"missing":   os.Remove,
	}
	parts := map[string]func(v1.Image) (v1.Hash, error){
		"manifest": func(i v1.Image) (v1.Hash, error) { return i.Digest() },
		"config":   func(i v1.Image) (v1.Hash, error) { return i.ConfigName() },
		"layer": func(i v1.Image) (v1.Hash, error) {
			l, err := i.Layers()
			if err != nil {
				return v1.Hash{}, err
			}
			return l[1].Digest()
		},
	}
	for part, pick := range parts {
		for damage, do := range damages {
			t.Run(part+" "+damage, func(t *testing.T) {
				s, img := testStore(t), testImage(t, 1, 2)
				put(t, s, "redis", img)
				put(t, s, "other", testImage(t, 1, 3))
				digest, err := pick(img)
				if err == nil {
					err = do(s.blobPath(digest))
				}
				if err != nil {
					t.Fatal(err)
				}
				checkCorrupt(t, s, digest)
			})
		}
	}
}

func checkCorrupt(t *testing.T, s *Store, digest v1.Hash) {
	err := readAll(t, s, "redis")
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		t.Fatalf("reading gives %v, want a CorruptError", err)
	}
	if corrupt.Digest != digest || len(corrupt.Images) != 1 || !strings.Contains(corrupt.Hint(), "rmi -f redis:latest") {
		t.Errorf("%+v, hint %q", corrupt, corrupt.Hint())
	}
	if err := readAll(t, s, "other"); err != nil {
		t.Errorf("the other image: %v", err)
	}
	if p := s.Check(t.Context(), true); len(p) != 1 || len(p[0].Images) != 1 || p[0].Hint != corrupt.Hint() {
		t.Errorf("Check: %+v", p)
	}
	if list, err := s.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("List: %+v, %v", list, err)
	}
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Errorf("Prune: %v", err)
	}
	if _, err := s.Remove(t.Context(), "redis", RemoveOptions{Force: true}); err != nil {
		t.Errorf("Remove: %v", err)
	}
	put(t, s, "redis", testImage(t, 1, 2))
	if err := errors.Join(readAll(t, s, "redis"), readAll(t, s, "other")); err != nil {
		t.Errorf("after mending: %v", err)
	}
	clean(t, s)
}

// readAll reads the whole image, as flattening would.
func readAll(t *testing.T, s *Store, ref string) error {
	img, _, err := s.Image(t.Context(), ref)
	if err != nil {
		return err
	}
	return readLayers(img)
}

func readLayers(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func overwrite(path string, change func([]byte) []byte) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, change(data), 0o400)
}

// TestCorruptPadding reads a layer as tar readers do, not to its very end.
func TestCorruptPadding(t *testing.T) {
	s := testStore(t)
	img := testImage(t, 1)
	put(t, s, "x", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	err = overwrite(s.blobPath(digest), func(b []byte) []byte { b[0] ^= 1; return b })
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := s.Image(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	layer, err := got.LayerByDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	r, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); !errors.As(err, new(*CorruptError)) {
		t.Errorf("Close: %v, want a CorruptError", err)
	}
}

func TestCorruptIndex(t *testing.T) {
	for name, content := range map[string]string{
		"empty":     "",
		"no JSON":   "{",
		"version":   `{"schemaVersion":1}`,
		"digest":    `{"schemaVersion":2,"manifests":[{"digest":"sha256:12"}]}`,
		"too large": strings.Repeat(" ", maxDocument+1),
	} {
		s := testStore(t)
		put(t, s, "x", testImage(t, 1))
		if err := os.WriteFile(s.indexPath(), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.Image(t.Context(), "x")
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || !strings.Contains(corrupt.Hint(), s.indexPath()) {
			t.Errorf("%s: %v", name, err)
		}
		if p := s.Check(t.Context(), false); len(p) != 1 {
			t.Errorf("%s: Check: %+v", name, p)
		}
		// Nothing is thrown away on the word of a broken index.
		if _, err := s.Prune(t.Context(), PruneOptions{}); err == nil {
			t.Errorf("%s: Prune works", name)
		}
		if blobs, err := filepath.Glob(filepath.Join(s.blobsDir(), "*")); err != nil || len(blobs) != 3 {
			t.Errorf("%s: blobs %v, %v", name, blobs, err)
		}
	}
}
