package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// parts is an image taken apart for storing.
type parts struct {
	img      v1.Image
	desc     v1.Descriptor // of the manifest
	blobs    []v1.Descriptor
	manifest []byte
	config   []byte
	configID v1.Hash
	entry    Entry // but for its name
}

// Put stores img under name, which moves to it if it named another image.
// Blobs that the store has are not read from img; the others are streamed to
// disk and verified. The image becomes visible as a whole or not at all, and
// survives a crash of the host once Put has returned.
//
// Layers that a LayerWriter of this store made, or Load unpacked, are moved,
// not copied.
func (s *Store) Put(ctx context.Context, name Name, img v1.Image) (Entry, error) {
	st, err := s.newStage(ctx)
	if err != nil {
		return Entry{}, fmt.Errorf("storing image %s: %w", name, err)
	}
	defer st.close()
	return s.put(ctx, name, img, nil, st, map[v1.Hash]string{})
}

// put is Put with blobs that lie in the stage st already, at the paths in
// staged, and with where the image comes from, unless that is nil.
func (s *Store) put(ctx context.Context, name Name, img v1.Image, origin *Origin, st *stage, staged map[v1.Hash]string) (Entry, error) {
	entry, err := s.putParts(ctx, name, img, origin, st, staged)
	if err != nil {
		return Entry{}, fmt.Errorf("storing image %s: %w", name, err)
	}
	return entry, nil
}

func (s *Store) putParts(ctx context.Context, name Name, img v1.Image, origin *Origin, st *stage, staged map[v1.Hash]string) (Entry, error) {
	if name.IsZero() {
		return Entry{}, errors.New("it has no name")
	}
	p, err := takeApart(img)
	if err != nil {
		return Entry{}, err
	}
	if name.Digest != (v1.Hash{}) && name.Digest != p.desc.Digest && (origin == nil || name.Digest != origin.Digest) {
		return Entry{}, fmt.Errorf("its digest is %s", p.desc.Digest)
	}
	if origin != nil {
		setOrigin(&p.desc, *origin)
		p.entry.Origin = origin
	}
	for done := false; !done; {
		// A blob that was there may be collected before the commit. Then this
		// goes round again, with one blob more staged each time.
		for _, b := range p.blobs {
			if staged[b.Digest] != "" || s.hasBlob(b.Digest, b.Size) {
				continue
			}
			if staged[b.Digest], err = s.stagePart(ctx, st, p, b); err != nil {
				return Entry{}, err
			}
		}
		err = s.locked(ctx, func() (err error) {
			done, err = s.commit(name, p, staged)
			return err
		})
		if err != nil {
			return Entry{}, err
		}
	}
	p.entry.Name = entryName(v1.Descriptor{Annotations: map[string]string{refName: name.key()}})
	return p.entry, nil
}

// movable is a layer that is a file in a stage.
type movable interface {
	// staged returns the file, if it is there and a store at root may take it.
	staged(root string) (path string, ok bool)
}

// takeApart reads what of img is small and checks that it fits together.
func takeApart(img v1.Image) (*parts, error) {
	p := &parts{img: img}
	var err error
	if p.manifest, err = img.RawManifest(); err != nil {
		return nil, fmt.Errorf("reading its manifest: %w", err)
	}
	m, err := parseManifest(p.manifest)
	if err != nil {
		return nil, fmt.Errorf("its manifest %w", err)
	}
	if p.config, err = img.RawConfigFile(); err != nil {
		return nil, fmt.Errorf("reading its config: %w", err)
	}
	if len(p.config) > maxDocument {
		return nil, fmt.Errorf("its config is larger than %d MiB", maxDocument>>20)
	}
	p.configID = m.Config.Digest
	for _, l := range m.Layers {
		if l.MediaType.IsLayer() && !l.MediaType.IsDistributable() {
			return nil, fmt.Errorf("its layer %s is of type %s, which is kept outside registries", l.Digest, l.MediaType)
		}
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return nil, fmt.Errorf("reading its media type: %w", err)
	}
	digest, size, err := v1.SHA256(bytes.NewReader(p.manifest))
	if err != nil {
		return nil, err
	}
	p.desc = v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}
	p.entry = Entry{Digest: digest, MediaType: mediaType}
	if _, err := p.entry.describe(p.desc, m, p.config); err != nil {
		return nil, fmt.Errorf("its config %w", err)
	}
	if p.entry.Architecture != "" {
		p.desc.Platform = &v1.Platform{OS: p.entry.OS, Architecture: p.entry.Architecture}
	}
	p.blobs = append(blobsOf(m), p.desc)
	return p, nil
}

// stagePart brings one blob of p into the stage and returns its path there.
func (s *Store) stagePart(ctx context.Context, st *stage, p *parts, b v1.Descriptor) (string, error) {
	switch b.Digest {
	case p.desc.Digest:
		return st.stageBlob(ctx, bytes.NewReader(p.manifest), b.Digest, b.Size)
	case p.configID:
		return st.stageBlob(ctx, bytes.NewReader(p.config), b.Digest, b.Size)
	}
	layer, err := p.img.LayerByDigest(b.Digest)
	if err != nil {
		return "", fmt.Errorf("reading layer %s: %w", b.Digest, err)
	}
	if l, ok := layer.(movable); ok {
		if path, ok := l.staged(s.root); ok {
			return path, nil
		}
	}
	r, err := layer.Compressed()
	if err != nil {
		return "", fmt.Errorf("reading layer %s: %w", b.Digest, err)
	}
	path, err := st.stageBlob(ctx, r, b.Digest, b.Size)
	if cerr := r.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("reading layer %s: %w", b.Digest, cerr)
	}
	return path, err
}

// commit makes p visible: it moves the staged blobs into place, and then
// writes the index. It returns false, having done nothing, where a blob is
// neither staged nor there. The store's lock must be held.
func (s *Store) commit(name Name, p *parts, staged map[v1.Hash]string) (bool, error) {
	idx, err := s.readIndex()
	if err != nil {
		return false, err
	}
	var move []v1.Descriptor
	for _, b := range p.blobs {
		if s.hasBlob(b.Digest, b.Size) {
			continue
		}
		if staged[b.Digest] == "" {
			return false, nil
		}
		move = append(move, b)
	}
	for _, b := range move {
		path := staged[b.Digest]
		if err := os.Chmod(path, 0o400); err != nil {
			return false, wrapWrite("storing", path, err)
		}
		if err := rename(path, s.blobPath(b.Digest)); err != nil {
			return false, wrapWrite("storing", path, err)
		}
	}
	if len(move) > 0 {
		if err := syncDir(s.blobsDir()); err != nil {
			return false, wrapWrite("syncing", s.blobsDir(), err)
		}
	}
	if setEntry(idx, name, p.desc) {
		if err := s.writeIndex(idx); err != nil {
			return false, err
		}
	}
	return true, nil
}

// Tag gives the image that ref means another name, which moves to it if it
// named another image.
func (s *Store) Tag(ctx context.Context, ref string, name Name) error {
	if name.Tag == "" {
		return &NameError{Name: name.String(), Reason: "has no tag to set", hint: "give the new name a tag instead of a digest"}
	}
	err := s.locked(ctx, func() error {
		idx, err := s.readIndex()
		if err != nil {
			return err
		}
		found, _, err := s.find(idx, ref)
		if err != nil {
			return err
		}
		d := idx.Manifests[found[0]]
		if name.Digest != (v1.Hash{}) && name.Digest != d.Digest {
			return &NameError{Name: name.String(), Reason: fmt.Sprintf("its digest is not that of %s", clip(ref)), hint: "leave the digest out"}
		}
		if setEntry(idx, name, d) {
			return s.writeIndex(idx)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tagging image %s: %w", clip(ref), err)
	}
	return nil
}
