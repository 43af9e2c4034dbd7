// Package image is what a Capstan image is: an OCI image whose layers are
// flattened into a root file system and whose config says what runs in it.
package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/image/erofs"
	"capstan/internal/repo"
)

// Names with a meaning in layers: OCI image specification, layer.md,
// "Whiteouts".
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// Root puts the image's flattened root at dst, which must not exist, making it
// where the store does not have it yet. The digest is the store's entry's: of
// a multi-platform image it is the index's, not img's. See repo.Store.Root.
func Root(ctx context.Context, store *repo.Store, img v1.Image, digest v1.Hash, dst string) error {
	return store.Root(ctx, digest, dst, func(ctx context.Context, f *os.File) error { return Flatten(ctx, img, f) })
}

// Flatten writes the file system that an image's layers make, one upon the
// other, to f as EROFS. Layers are streamed; f holds nothing but the root.
func Flatten(ctx context.Context, img v1.Image, f *os.File) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("reading the image's layers: %w", err)
	}
	w := erofs.Create(f, erofs.Options{})
	for _, layer := range layers {
		if err := flattenLayer(ctx, w, layer); err != nil {
			digest, _ := layer.Digest()
			return fmt.Errorf("flattening layer %s: %w", digest, err)
		}
	}
	size, err := w.Close()
	if err != nil {
		return fmt.Errorf("writing the root file system: %w", err)
	}
	return f.Truncate(size)
}

func flattenLayer(ctx context.Context, w *erofs.Writer, layer v1.Layer) (err error) {
	r, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	// Closing verifies the digest.
	defer func() { err = errors.Join(err, r.Close()) }()
	w.BeginLayer()
	entries := tar.NewReader(bufio.NewReaderSize(r, 1<<20))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := entries.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		if err := addEntry(w, hdr, entries); err != nil {
			return err
		}
	}
}

func addEntry(w *erofs.Writer, hdr *tar.Header, content io.Reader) error {
	dir, base := path.Split(path.Clean("/" + hdr.Name))
	switch {
	case base == opaqueMarker:
		return w.Opaque(dir)
	case strings.HasPrefix(base, whiteoutPrefix):
		return w.Whiteout(path.Join(dir, strings.TrimPrefix(base, whiteoutPrefix)))
	default:
		return w.AddTarEntry(hdr, content)
	}
}
