package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types of a disk image: a manifest with this config and one layer, the
// disk, of the prefix and its format: "….v1.qcow2". What means more of it is
// for package image.
const (
	DiskConfigType  types.MediaType = "application/vnd.capstan.disk.config.v1+json"
	DiskLayerPrefix                 = "application/vnd.capstan.disk.v1."
)

// IsDisk tells whether m is a disk image's manifest.
func IsDisk(m *v1.Manifest) bool {
	return m.Config.MediaType == DiskConfigType && len(m.Layers) == 1 && IsDiskLayer(m.Layers[0])
}

// IsDiskLayer tells whether d is a disk image's layer.
func IsDiskLayer(d v1.Descriptor) bool {
	return strings.HasPrefix(string(d.MediaType), DiskLayerPrefix)
}

// diskFormat is the format of the disk that m is an image of: "qcow2"; or "".
func diskFormat(m *v1.Manifest) string {
	if !IsDisk(m) {
		return ""
	}
	format, _, _ := strings.Cut(strings.TrimPrefix(string(m.Layers[0].MediaType), DiskLayerPrefix), "+")
	return format
}

// NoLayersError says that a disk image has no layers of files, which what was
// asked for would need.
type NoLayersError struct{ Name, hint string }

func (e *NoLayersError) Error() string {
	return e.Name + " is a disk image, which no container engine can run"
}

// Hint is the way out.
func (e *NoLayersError) Hint() string { return e.hint }

// Link puts a blob of the image with the given digest at dst, as Root does
// with a root: verified once, a hard link where the file system has them, and
// read only. The image's root is this blob.
func (s *Store) Link(ctx context.Context, digest v1.Hash, blob v1.Descriptor, dst string) error {
	cached := s.rootPath(digest)
	err := os.Link(cached, dst)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	link := func() error { return s.linkRoot(ctx, digest, blob) }
	return s.withRootBy(ctx, digest, link, func() error { return linkOrCopy(ctx, cached, dst) })
}

// OpenLink opens what Link would put somewhere, for reading.
func (s *Store) OpenLink(ctx context.Context, digest v1.Hash, blob v1.Descriptor) (f *os.File, err error) {
	link := func() error { return s.linkRoot(ctx, digest, blob) }
	err = s.withRootBy(ctx, digest, link, func() error {
		f, err = os.Open(s.rootPath(digest))
		return err
	})
	return f, err
}

// linkRoot verifies a blob and makes it a root. The root's lock must be held.
func (s *Store) linkRoot(ctx context.Context, digest v1.Hash, blob v1.Descriptor) error {
	pin, err := s.newStage(ctx, digest)
	if err != nil {
		return err
	}
	defer pin.close()
	r, err := s.Blob(blob)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, &ctxReader{ctx: ctx, r: r})
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("reading image %s: %w", digest.Hex[:12], err)
	}
	return linkOrCopy(ctx, s.blobPath(blob.Digest), s.rootPath(digest))
}
