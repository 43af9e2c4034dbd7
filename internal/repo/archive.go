package repo

import (
	"bytes"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archive is an archive of images whose files lie in a stage.
type archive struct {
	store *Store
	stage *stage
	files map[string]archiveFile // by clean name
}

// archiveFile is a file of an archive, or a link to one.
type archiveFile struct {
	link   string // what a link leads to, from the archive's top
	path   string // on the host, of a name that has nothing of the archive's
	digest v1.Hash
	size   int64
	start  []byte // the first bytes
}

// archiveImage is an image of an archive. Put moves its layers.
type archiveImage struct {
	v1.Image
	core *archiveCore
}

// archiveCore is what partial makes a v1.Image of.
type archiveCore struct {
	mediaType        types.MediaType
	manifest, config []byte
	layers           map[v1.Hash]*fileLayer
}

func (c *archiveCore) MediaType() (types.MediaType, error) { return c.mediaType, nil }
func (c *archiveCore) RawManifest() ([]byte, error)        { return c.manifest, nil }
func (c *archiveCore) RawConfigFile() ([]byte, error)      { return c.config, nil }

func (c *archiveCore) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if l, ok := c.layers[h]; ok {
		return l, nil
	}
	return nil, badArchive("has no layer %s", h)
}

func newArchiveImage(core *archiveCore) (*archiveImage, error) {
	img, err := partial.CompressedToImage(core)
	if err != nil {
		return nil, badArchive("has a manifest that is none: %v", err)
	}
	return &archiveImage{img, core}, nil
}

func (i *archiveImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	file, ok := i.core.layers[h]
	if !ok {
		return i.Image.LayerByDigest(h) // the config as one, or an error
	}
	layer, err := partial.CompressedToLayer(file)
	return &archiveLayer{layer, file}, err
}

// archiveLayer is a layer of which Put may take the file.
type archiveLayer struct {
	v1.Layer
	file *fileLayer
}

func (l *archiveLayer) staged(root string) (string, bool) {
	_, err := os.Stat(l.file.path)
	return l.file.path, err == nil && l.file.root == root
}

// fileLayer is a file of a stage as a layer.
type fileLayer struct {
	root string // of the store that the stage is in
	path string
	desc v1.Descriptor
}

func (l *fileLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *fileLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error)  { return os.Open(l.path) }

// document returns a small file of the archive.
func (a *archive) document(name string) ([]byte, error) {
	file, err := a.file(name)
	if err != nil {
		return nil, err
	}
	if file.size > maxDocument {
		return nil, badArchive("has a %s of more than %d MiB", clip(name), maxDocument>>20)
	}
	data, err := os.ReadFile(file.path)
	if err != nil {
		return nil, fmt.Errorf("reading what was unpacked: %w", err)
	}
	return data, nil
}

func (a *archive) documentOf(d v1.Descriptor) ([]byte, error) {
	if _, err := a.blob(d); err != nil {
		return nil, err
	}
	return a.document(blobName(d.Digest))
}

// blob returns the file of a blob, which must be what d says.
func (a *archive) blob(d v1.Descriptor) (archiveFile, error) {
	if err := checkDescriptor(d); err != nil {
		return archiveFile{}, badArchive("%v", err)
	}
	file, err := a.file(blobName(d.Digest))
	switch {
	case err != nil:
		return file, err
	case file.size != d.Size:
		return file, badArchive("has a blob %s of %d bytes instead of %d", d.Digest, file.size, d.Size)
	case file.digest != d.Digest:
		return file, badArchive("has a blob %s whose content has digest %s", d.Digest, file.digest)
	}
	return file, nil
}

// layer returns the named file as a layer.
func (a *archive) layer(name string) (*fileLayer, error) {
	file, err := a.file(name)
	if err != nil {
		return nil, err
	}
	mediaType := types.OCIUncompressedLayer
	switch {
	case bytes.HasPrefix(file.start, []byte(gzipMagic)):
		mediaType = types.OCILayer
	case bytes.HasPrefix(file.start, []byte(zstdMagic)):
		mediaType = types.OCILayerZStd
	}
	return a.fileLayer(file, v1.Descriptor{MediaType: mediaType, Digest: file.digest, Size: file.size}), nil
}

func (a *archive) fileLayer(file archiveFile, d v1.Descriptor) *fileLayer {
	return &fileLayer{root: a.store.root, path: file.path, desc: d}
}

// file finds a file of the archive, through its links.
func (a *archive) file(name string) (archiveFile, error) {
	clean, err := cleanName(name)
	for range maxLinks {
		if err != nil {
			return archiveFile{}, err
		}
		file, ok := a.files[clean]
		if !ok {
			return archiveFile{}, badArchive("lacks the file %s that it names", clip(name))
		}
		if file.link == "" {
			return file, nil
		}
		clean, err = cleanName(file.link)
	}
	return archiveFile{}, badArchive("has a circle of links at %s", clip(name))
}
