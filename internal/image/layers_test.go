package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// tarOf returns a tar of one file.
func tarOf(t testing.TB, name, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// blobLayer is a layer of given bytes.
type blobLayer struct {
	plain, blob []byte
	mediaType   types.MediaType
}

// newLayer compresses a tar as its media type says.
func newLayer(t testing.TB, plain []byte, mediaType types.MediaType) *blobLayer {
	t.Helper()
	l := &blobLayer{plain: plain, blob: plain, mediaType: mediaType}
	var buf bytes.Buffer
	var w io.WriteCloser
	switch mediaType {
	case types.OCILayer, types.DockerLayer:
		w = gzip.NewWriter(&buf)
	case types.OCILayerZStd:
		var err error
		if w, err = zstd.NewWriter(&buf); err != nil {
			t.Fatal(err)
		}
	default:
		return l
	}
	_, err := w.Write(plain)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	l.blob = buf.Bytes()
	return l
}

func sum(b []byte) v1.Hash {
	h, _, err := v1.SHA256(bytes.NewReader(b))
	if err != nil {
		panic(err)
	}
	return h
}

func (l *blobLayer) Digest() (v1.Hash, error)            { return sum(l.blob), nil }
func (l *blobLayer) DiffID() (v1.Hash, error)            { return sum(l.plain), nil }
func (l *blobLayer) Size() (int64, error)                { return int64(len(l.blob)), nil }
func (l *blobLayer) MediaType() (types.MediaType, error) { return l.mediaType, nil }
func (l *blobLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.blob)), nil
}
func (l *blobLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.plain)), nil
}

// imageOf returns an OCI image for linux/amd64 of the given layers.
func imageOf(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return forPlatform(t, img, "linux/amd64")
}

// layeredImage returns an image of three layers of a media type.
func layeredImage(t testing.TB, mediaType types.MediaType) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for i := range 3 {
		layers = append(layers, newLayer(t, tarOf(t, fmt.Sprint("file", i), fmt.Sprint(mediaType, i)), mediaType))
	}
	return imageOf(t, layers...)
}
