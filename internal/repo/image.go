package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Entry describes an image in the store.
type Entry struct {
	Name         Name            `json:"name"` // zero for an image without a name
	Digest       v1.Hash         `json:"digest,omitzero"`
	MediaType    types.MediaType `json:"mediaType"`
	Origin       *Origin         `json:"origin,omitempty"` // nil for an image that was not pulled
	Size         int64           `json:"size"`             // bytes of all blobs, as stored
	Created      time.Time       `json:"created,omitzero"`
	OS           string          `json:"os,omitempty"`
	Architecture string          `json:"architecture,omitempty"`
	Disk         string          `json:"disk,omitempty"`    // format of a disk image: "qcow2"
	Path         string          `json:"path,omitempty"`    // of a disk in old Capstan's repository, not yet in the store
	Problem      string          `json:"problem,omitempty"` // why the rest could not be read
}

// Image returns the image that ref names, or whose digest ref is or begins:
// "redis", "redis@sha256:…", "sha256:…", "4f2a9c". Of a multi-platform image
// it returns the one for Linux on this machine's architecture.
//
// The manifest and config are read and verified at once. Layers are read from
// disk on demand and verified while they are read: reading to the end, or
// closing at most 1 MiB before it, returns a *CorruptError where a layer is
// not what its digest says. The errors of absent images are ErrNotFound.
func (s *Store) Image(ctx context.Context, ref string) (v1.Image, Entry, error) {
	for try := 0; ; try++ {
		if err := ctx.Err(); err != nil {
			return nil, Entry{}, err
		}
		idx, err := s.readIndex()
		if err != nil {
			return nil, Entry{}, err
		}
		found, _, err := s.find(idx, ref)
		if err != nil {
			return nil, Entry{}, err
		}
		d := idx.Manifests[found[0]]
		img, entry, err := s.load(d)
		if err == nil {
			return img, entry, nil
		}
		// The name may have moved to another image, and this one have been
		// collected, since the index was read: then look again.
		err = s.explain(ref, err)
		if try == 5 || !errors.Is(err, ErrNotFound) {
			return nil, Entry{}, fmt.Errorf("image %s: %w", clip(ref), err)
		}
	}
}

// Find returns the first of refs that the store has an image for, or "". A ref
// is what Image takes.
func (s *Store) Find(ctx context.Context, refs ...string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	idx, err := s.readIndex()
	if err != nil {
		return "", err
	}
	for _, ref := range refs {
		_, _, err := s.find(idx, ref)
		if err == nil {
			return ref, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return "", err
		}
	}
	return "", nil
}

// load reads what d refers to.
func (s *Store) load(d v1.Descriptor) (v1.Image, Entry, error) {
	entry := Entry{Name: entryName(d), Digest: d.Digest, MediaType: d.MediaType, Origin: originOf(d)}
	d, err := s.pick(d)
	if err != nil {
		return nil, entry, err
	}
	img := &rawImage{mediaType: d.MediaType}
	img.layer = func(l v1.Descriptor) blobLayer { return &diskLayer{store: s, desc: l} }
	if img.rawManifest, err = s.readDocument(d); err != nil {
		return nil, entry, err
	}
	if img.manifest, err = parseManifest(img.rawManifest); err != nil {
		return nil, entry, &CorruptError{Digest: d.Digest, Path: s.blobPath(d.Digest), Reason: "it " + err.Error()}
	}
	if img.rawConfig, err = s.readDocument(img.manifest.Config); err != nil {
		return nil, entry, err
	}
	if img.diffIDs, err = entry.describe(d, img.manifest, img.rawConfig); err != nil {
		c := img.manifest.Config.Digest
		return nil, entry, &CorruptError{Digest: c, Path: s.blobPath(c), Reason: "it " + err.Error()}
	}
	full, err := partial.CompressedToImage(img)
	return full, entry, err
}

// describe fills in what an image's manifest and config tell, and returns the
// digests of its uncompressed layers.
func (e *Entry) describe(d v1.Descriptor, m *v1.Manifest, rawConfig []byte) ([]v1.Hash, error) {
	var config v1.ConfigFile
	if err := json.Unmarshal(rawConfig, &config); err != nil && m.Config.MediaType.IsConfig() {
		return nil, fmt.Errorf("is no image config: %w", jsonProblem(err))
	}
	e.Created, e.OS, e.Architecture = config.Created.Time, config.OS, config.Architecture
	e.Disk = diskFormat(m)
	e.Size = d.Size
	for _, b := range blobsOf(m) {
		e.Size += b.Size
	}
	return config.RootFS.DiffIDs, nil
}

// pick follows an index to the manifest for this machine. Other tools store
// such images; an index within an index is no more than two deep.
func (s *Store) pick(d v1.Descriptor) (v1.Descriptor, error) {
	for depth := 0; d.MediaType.IsIndex(); depth++ {
		data, err := s.readDocument(d)
		if err != nil {
			return d, err
		}
		idx, err := parseIndex(data)
		if err != nil {
			return d, &CorruptError{Digest: d.Digest, Path: s.blobPath(d.Digest), Reason: "it " + err.Error()}
		}
		i := platformOf(idx)
		if i < 0 || depth == 2 {
			return d, fmt.Errorf("has no image for linux/%s", runtime.GOARCH)
		}
		d = idx.Manifests[i]
	}
	return d, nil
}

// platformOf returns the position of the manifest for this machine, or -1.
func platformOf(idx *v1.IndexManifest) int {
	for i, m := range idx.Manifests {
		if p := m.Platform; p == nil || p.OS == "linux" && p.Architecture == runtime.GOARCH {
			return i
		}
	}
	return -1
}

// blobsOf returns the config and layers of m, each once.
func blobsOf(m *v1.Manifest) []v1.Descriptor {
	seen := map[v1.Hash]bool{}
	var blobs []v1.Descriptor
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			blobs = append(blobs, d)
		}
	}
	return blobs
}

// explain turns the error of reading a blob, for ref, into one that says
// whether the image was removed or its blob was lost, and which images need
// the blob.
func (s *Store) explain(ref string, err error) error {
	var missing *missingError
	if errors.As(err, &missing) {
		users, lost := s.lost(missing.digest)
		if !lost {
			return &NotFoundError{Ref: ref, Looked: []string{s.Place() + " (it was removed meanwhile)"}}
		}
		return &CorruptError{Digest: missing.digest, Path: missing.path, Reason: "it is missing", Images: users}
	}
	var corrupt *CorruptError
	if errors.As(err, &corrupt) && corrupt.Digest != (v1.Hash{}) {
		if users, uerr := s.users(corrupt.Digest); uerr == nil {
			corrupt.Images = users
		}
	}
	return err
}

// lost tells a blob that is missing from one that was removed, and perhaps put
// back since. Only under the lock do the index and the blobs agree; where that
// cannot be had, as in a store that may only be read, it does without.
func (s *Store) lost(h v1.Hash) (users []string, lost bool) {
	look := func() (err error) {
		if users, err = s.users(h); err == nil {
			_, serr := os.Stat(s.blobPath(h))
			lost = len(users) > 0 && serr != nil
		}
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if s.locked(ctx, look) != nil && look() != nil {
		return nil, true
	}
	return users, lost
}

// rawImage is the core that partial makes a v1.Image of.
type rawImage struct {
	layer       func(v1.Descriptor) blobLayer
	mediaType   types.MediaType
	rawManifest []byte
	rawConfig   []byte
	manifest    *v1.Manifest
	diffIDs     []v1.Hash
}

func (i *rawImage) MediaType() (types.MediaType, error) { return i.mediaType, nil }
func (i *rawImage) RawManifest() ([]byte, error)        { return i.rawManifest, nil }
func (i *rawImage) RawConfigFile() ([]byte, error)      { return i.rawConfig, nil }

// LayerByDigest returns a layer, or the config as one, as registries do.
func (i *rawImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for n, d := range i.manifest.Layers {
		if d.Digest != h {
			continue
		}
		layer := i.layer(d)
		if len(i.diffIDs) == len(i.manifest.Layers) {
			return &diffLayer{blobLayer: layer, diffID: i.diffIDs[n]}, nil
		}
		return layer, nil
	}
	if i.manifest.Config.Digest == h {
		return i.layer(i.manifest.Config), nil
	}
	return nil, fmt.Errorf("image has no layer %s", h)
}

// blobLayer is a blob as a layer.
type blobLayer interface {
	partial.CompressedLayer
	Descriptor() (*v1.Descriptor, error)
}

// diskLayer is a blob of the store as a layer.
type diskLayer struct {
	store *Store
	desc  v1.Descriptor
}

func (l *diskLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *diskLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *diskLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *diskLayer) Descriptor() (*v1.Descriptor, error) { return l.desc.DeepCopy(), nil }
func (l *diskLayer) Compressed() (io.ReadCloser, error) {
	for try := 0; ; try++ {
		r, err := l.store.openBlob(l.desc.Digest, l.desc.Size)
		if err == nil {
			return &explainReader{blobReader: r, store: l.store}, nil
		}
		// An image that was removed may have been put back since.
		err = l.store.explain(l.desc.Digest.String(), err)
		if try == 5 || !errors.Is(err, ErrNotFound) || !l.store.hasBlob(l.desc.Digest, l.desc.Size) {
			return nil, err
		}
	}
}

// diffLayer is a layer whose uncompressed digest the config tells.
type diffLayer struct {
	blobLayer
	diffID v1.Hash
}

func (l *diffLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// explainReader adds to a corrupt blob's error which images need the blob.
type explainReader struct {
	*blobReader
	store *Store
}

func (e *explainReader) Read(p []byte) (int, error) {
	n, err := e.blobReader.Read(p)
	return n, e.explain(err)
}

func (e *explainReader) Close() error { return e.explain(e.blobReader.Close()) }

func (e *explainReader) explain(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return e.store.explain(e.want.String(), err)
}
