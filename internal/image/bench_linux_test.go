package image_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"capstan/internal/image"
	"capstan/internal/image/decompress"
	"capstan/internal/image/imagetest"
)

// BenchmarkFlatten flattens an image of 500 MB in 8 layers, compressed by
// gzip, from an OCI layout. Beside it, decompressing alone: by what Flatten
// uses, and by the standard library, which go-containerregistry uses.
func BenchmarkFlatten(b *testing.B) {
	var list []v1.Layer
	for i := range uint64(8) {
		list = append(list, imagetest.Gzip(b, typicalLayer(b, i, 62_500_000)))
	}
	dir, err := layout.Write(filepath.Join(b.TempDir(), "layout"), empty.Index)
	if err != nil {
		b.Fatal(err)
	}
	made := imagetest.Image(b, list...)
	if err := dir.AppendImage(made); err != nil {
		b.Fatal(err)
	}
	digest, err := made.Digest()
	if err != nil {
		b.Fatal(err)
	}
	img, err := dir.Image(digest)
	if err != nil {
		b.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		b.Fatal(err)
	}
	out := filepath.Join(b.TempDir(), "root")
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"flatten", func() error {
			f, err := os.Create(out)
			if err != nil {
				return err
			}
			defer f.Close()
			return image.Flatten(b.Context(), img, f)
		}},
		{"decompress", func() error { return readAll(layers, ours) }},
		{"standard-gzip", func() error { return readAll(layers, v1.Layer.Uncompressed) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(8 * 62_500_000)
			for b.Loop() {
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// ours decompresses a layer as Flatten does.
func ours(l v1.Layer) (io.ReadCloser, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	return decompress.NewReader(r)
}

func readAll(layers []v1.Layer, open func(v1.Layer) (io.ReadCloser, error)) error {
	for _, layer := range layers {
		r, err := open(layer)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// typicalLayer is a tar of files of 36 KB, on average, which gzip makes a
// third of.
func typicalLayer(b *testing.B, seed uint64, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, 2))
	words := make([][]byte, 20000)
	for i := range words {
		words[i] = make([]byte, 3+rng.IntN(10))
		for j := range words[i] {
			words[i][j] = byte(rng.Uint32())
		}
	}
	var out, content bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; out.Len() < size; i++ {
		content.Reset()
		for n := rng.IntN(72_000); content.Len() < n; {
			content.Write(words[int(rng.ExpFloat64()*2000)%len(words)])
		}
		hdr := tar.Header{Name: fmt.Sprintf("usr/lib/%d/%d/file%d", seed, i/50, i), Mode: 0o644, Size: int64(content.Len()), ModTime: time.Unix(1e9, 0)}
		if err := w.WriteHeader(&hdr); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(content.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}
