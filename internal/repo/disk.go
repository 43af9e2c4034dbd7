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

// diskFormat is the format of the disk that m is an image of: "qcow2"; or "".
func diskFormat(m *v1.Manifest) string {
	if m.Config.MediaType != DiskConfigType || len(m.Layers) != 1 {
		return ""
	}
	format, ok := strings.CutPrefix(string(m.Layers[0].MediaType), DiskLayerPrefix)
	if !ok {
		return ""
	}
	format, _, _ = strings.Cut(format, "+")
	return format
}

// Link puts a blob of the image with the given digest at dst, as Root does
// with a root: verified once, a hard link where the file system has them, and
// read only. The image's root is this blob.
func (s *Store) Link(ctx context.Context, digest v1.Hash, blob v1.Descriptor, dst string) error {
	cached := s.rootPath(digest)
	err := os.Link(cached, dst)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.makeDirs(); err != nil {
		return err
	}
	lock, err := lockRoot(ctx, strings.TrimSuffix(cached, rootSuffix)+lockSuffix)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(cached); err != nil {
		if err := s.linkRoot(ctx, digest, blob); err != nil {
			return fmt.Errorf("reading image %s: %w", digest.Hex[:12], err)
		}
	}
	return linkOrCopy(ctx, cached, dst)
}

// linkRoot verifies a blob and makes it a root. The root's lock must be held.
func (s *Store) linkRoot(ctx context.Context, digest v1.Hash, blob v1.Descriptor) error {
	pin, err := s.newStage(ctx, digest)
	if err != nil {
		return err
	}
	defer pin.close()
	r, err := (&diskLayer{store: s, desc: blob}).Compressed()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, &ctxReader{ctx: ctx, r: r})
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	return linkOrCopy(ctx, s.blobPath(blob.Digest), s.rootPath(digest))
}
