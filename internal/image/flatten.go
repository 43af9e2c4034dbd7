// Package image is what a Capstan image is: an OCI image whose layers are
// flattened into a root file system and whose config says what runs in it.
package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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

// aufsDirs are directories that Docker left in layers while it used AUFS. They
// are no part of the root, but hard links in their layer lead to the first.
var aufsDirs = []string{".wh..wh.plnk", ".wh..wh.orph", ".wh..wh.aufs"}

// overlayXattr begins the attributes by which overlayfs keeps its own state.
// The guest's would act on them; no program in an overlay ever sees them.
const overlayXattr = "SCHILY.xattr.trusted.overlay."

// Root puts the image's flattened root at dst, which must not exist, making it
// where the store does not have it yet. The digest is the store's entry's: of
// a multi-platform image it is the index's, not img's. See repo.Store.Root.
func Root(ctx context.Context, store *repo.Store, img v1.Image, digest v1.Hash, dst string) error {
	return store.Root(ctx, digest, dst, func(ctx context.Context, f *os.File) error { return Flatten(ctx, img, f) })
}

// OpenRoot opens the image's flattened root for reading. See Root, and
// repo.Store.OpenRoot.
func OpenRoot(ctx context.Context, store *repo.Store, img v1.Image, digest v1.Hash) (*os.File, error) {
	return store.OpenRoot(ctx, digest, func(ctx context.Context, f *os.File) error { return Flatten(ctx, img, f) })
}

// Flatten writes the file system that an image's layers make, one upon the
// other, to f as EROFS. Layers are streamed; f holds nothing but the root.
// What lies in a layer is verified by its reader against the layer's digest,
// and here against the digest that the config has of it uncompressed.
//
// The tree is bounded by the defaults of [erofs.Options], a layer's stream by
// maxLayer. An entry that would lie, or a hard link that leads, outside of the
// root is refused; symbolic links are followed inside it.
func Flatten(ctx context.Context, img v1.Image, f *os.File) error {
	return flatten(ctx, img, f, erofs.Options{})
}

// layered is what Flatten needs of an image.
type layered interface {
	Layers() ([]v1.Layer, error)
	ConfigFile() (*v1.ConfigFile, error)
}

func flatten(ctx context.Context, img layered, f *os.File, opts erofs.Options) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("reading the image's layers: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("reading the image's config: %w", err)
	}
	diffIDs := config.RootFS.DiffIDs
	if len(diffIDs) != len(layers) {
		return fmt.Errorf("the image has %d layers, and its config lists %d", len(layers), len(diffIDs))
	}
	w := erofs.Create(f, opts)
	open := func(i int) *layerReader {
		if i == len(layers) {
			return nil
		}
		return openLayer(ctx, layers[i])
	}
	next := open(0)
	for i, layer := range layers {
		r := next
		next = open(i + 1) // so that it is decompressed while this one is written
		if err := flattenLayer(ctx, w, r, diffIDs[i]); err != nil {
			if next != nil {
				_ = next.Close()
			}
			digest, _ := layer.Digest()
			return fmt.Errorf("flattening layer %s: %w", digest, err)
		}
		writeBack(f)
	}
	size, err := w.Close()
	if err != nil {
		return fmt.Errorf("writing the root file system: %w", err)
	}
	return f.Truncate(size)
}

// flattenLayer adds a layer, and closes r.
func flattenLayer(ctx context.Context, w *erofs.Writer, r *layerReader, diffID v1.Hash) (err error) {
	defer func() {
		// Closing verifies the digest. A blob that is not what that says is
		// the cause of all else.
		if cerr := r.Close(); cerr != nil && (err == nil || ctx.Err() == nil) {
			err = cerr
		}
	}()
	w.BeginLayer()
	entries := tar.NewReader(r)
	for {
		hdr, err := entries.Next()
		if err == io.EOF {
			break
		}
		// Insecure paths are refused or contained when they are added.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			// Of a blob that is not what its digest says, that is the
			// cause; it shows at the blob's end.
			if _, damaged := io.Copy(io.Discard, r); damaged != nil {
				return damaged
			}
			return fmt.Errorf("reading the tar: %w", err)
		}
		// A hole is read without r: only this sees the context's end.
		if err := addEntry(w, hdr, &contextReader{ctx, entries}); err != nil {
			return err
		}
	}
	for _, name := range aufsDirs {
		if err := w.Remove(name); err != nil {
			return err
		}
	}
	return r.verify(diffID)
}

func addEntry(w *erofs.Writer, hdr *tar.Header, content io.Reader) error {
	dir, base := path.Split(strings.TrimRight(hdr.Name, "/"))
	hidden, isWhiteout := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case base == opaqueMarker:
		return w.Opaque(dir)
	case !isWhiteout:
		maps.DeleteFunc(hdr.PAXRecords, func(key, _ string) bool { return strings.HasPrefix(key, overlayXattr) })
		return w.AddTarEntry(hdr, content)
	case hidden == "" || hidden == "." || hidden == "..":
		return fmt.Errorf("whiteout %.200q: %w", hdr.Name, erofs.ErrName)
	}
	return w.Whiteout(dir + hidden)
}
