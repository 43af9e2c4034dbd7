package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ArchiveError is an archive that is no archive of images, or a broken or
// hostile one.
type ArchiveError struct {
	Reason string
	hint   string
}

func (e *ArchiveError) Error() string { return "the archive " + e.Reason }

// Hint names what can be loaded.
func (e *ArchiveError) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	return "an archive of capstan save or docker save, or of skopeo's docker-archive: or oci-archive:"
}

func badArchive(format string, args ...any) error {
	return &ArchiveError{Reason: fmt.Sprintf(format, args...)}
}

// loaded is an image of an archive, ready to be stored.
type loaded struct {
	names []Name
	img   *archiveImage
}

// Load stores the images of an archive, of either format, plain or compressed
// by gzip, and returns one entry for each of their names. An archive with one
// image may be given the name that it gets; it must, where it has none itself.
//
// The archive is read once, from front to back, to files that are moved into
// the store once all of them are known to be what they should be: digests,
// sizes, and the layers' content. A broken archive gives an *ArchiveError and
// leaves nothing.
func (s *Store) Load(ctx context.Context, r io.Reader, name Name) ([]Entry, error) {
	entries, err := s.loadArchive(ctx, r, name)
	if err != nil {
		return nil, fmt.Errorf("loading: %w", err)
	}
	return entries, nil
}

func (s *Store) loadArchive(ctx context.Context, r io.Reader, name Name) ([]Entry, error) {
	st, err := s.newStage(ctx)
	if err != nil {
		return nil, err
	}
	defer st.close()
	a := &archive{store: s, stage: st, files: map[string]archiveFile{}}
	if err := a.unpack(ctx, r); err != nil {
		return nil, err
	}
	images, err := a.images(ctx)
	if err != nil {
		return nil, err
	}
	if !name.IsZero() {
		if len(images) != 1 {
			return nil, badArchive("has %d images, and one name was given for them", len(images))
		}
		images[0].names = []Name{name}
	}
	for _, l := range images {
		if len(l.names) == 0 {
			return nil, &ArchiveError{Reason: "has an image without a name", hint: "give it one: capstan load --name NAME"}
		}
	}
	var entries []Entry
	for _, l := range images {
		entry, err := s.Put(ctx, l.names[0], l.img)
		if err != nil {
			return entries, err
		}
		for _, name := range l.names {
			if err := s.Tag(ctx, entry.Digest.String(), name); err != nil {
				return entries, err
			}
			entry.Name = name
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// images reads what the archive says of itself. Archives of newer Dockers are
// of both formats; as an OCI layout they tell more.
func (a *archive) images(ctx context.Context) ([]loaded, error) {
	_, isOCI := a.files[ociIndex]
	_, isDocker := a.files[dockerManifest]
	switch {
	case isOCI:
		return a.ociImages()
	case isDocker:
		return a.dockerImages(ctx)
	default:
		return nil, badArchive("has neither %s nor %s", dockerManifest, ociIndex)
	}
}

func (a *archive) dockerImages(ctx context.Context) ([]loaded, error) {
	data, err := a.document(dockerManifest)
	if err != nil {
		return nil, err
	}
	var list []dockerImage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, badArchive("has a %s that is none: %v", dockerManifest, err)
	}
	if len(list) == 0 {
		return nil, badArchive("has no images")
	}
	var images []loaded
	for _, d := range list {
		img, err := a.dockerImage(ctx, d)
		if err != nil {
			return nil, err
		}
		l := loaded{img: img}
		for _, tag := range d.RepoTags {
			name, err := ParseName(tag)
			if err != nil {
				return nil, err
			}
			l.names = append(l.names, name)
		}
		images = append(images, l)
	}
	return images, nil
}

// dockerImage makes a manifest, which such archives lack, for one image.
func (a *archive) dockerImage(ctx context.Context, d dockerImage) (*archiveImage, error) {
	config, err := a.document(d.Config)
	if err != nil {
		return nil, err
	}
	file, err := a.file(d.Config)
	if err != nil {
		return nil, err
	}
	if hex := strings.TrimSuffix(path.Base(d.Config), ".json"); len(hex) == 64 && hex != file.digest.Hex {
		return nil, badArchive("has a config %s whose digest is %s", clip(d.Config), file.digest)
	}
	said, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, badArchive("has a config %s that is none: %v", clip(d.Config), err)
	}
	if len(said.RootFS.DiffIDs) != len(d.Layers) {
		return nil, badArchive("has %d layers for the %d of %s", len(d.Layers), len(said.RootFS.DiffIDs), clip(d.Config))
	}
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: file.digest, Size: file.size},
		Layers: []v1.Descriptor{},
	}
	layers := map[v1.Hash]*fileLayer{}
	for i, name := range d.Layers {
		layer, err := a.layer(name)
		if err != nil {
			return nil, err
		}
		if err := checkDiffID(ctx, layer, said.RootFS.DiffIDs[i]); err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, layer.desc)
		layers[layer.desc.Digest] = layer
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return newArchiveImage(&archiveCore{m.MediaType, raw, config, layers})
}

// checkDiffID compares a layer's content with what the config says of it.
func checkDiffID(ctx context.Context, file *fileLayer, want v1.Hash) error {
	layer, err := partial.CompressedToLayer(file)
	if err != nil {
		return err
	}
	r, err := layer.Uncompressed()
	if err != nil {
		return badArchive("has a layer that is damaged: %v", err)
	}
	defer func() { _ = r.Close() }()
	got, size, err := v1.SHA256(io.LimitReader(&ctxReader{ctx: ctx, r: r}, maxLayer+1))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return badArchive("has a layer that is damaged: %v", err)
	case size > maxLayer:
		return badArchive("has a layer of more than %d GiB", maxLayer>>30)
	case got != want:
		return badArchive("has a layer whose content has digest %s instead of %s", got, want)
	}
	return nil
}

func (a *archive) ociImages() ([]loaded, error) {
	data, err := a.document(ociIndex)
	if err != nil {
		return nil, err
	}
	idx, err := parseIndex(data)
	if err != nil {
		return nil, badArchive("has an %s that %v", ociIndex, err)
	}
	var images []loaded
	at := map[v1.Hash]int{}
	for _, d := range idx.Manifests {
		i, ok := at[d.Digest]
		if !ok {
			img, err := a.ociImage(d, 0)
			if err != nil {
				return nil, err
			}
			i, at[d.Digest] = len(images), len(images)
			images = append(images, loaded{img: img})
		}
		ref := d.Annotations[containerdName]
		if ref == "" {
			ref = d.Annotations[refName]
		}
		if ref == "" {
			continue
		}
		name, err := ParseName(ref)
		if err != nil {
			return nil, err
		}
		images[i].names = append(images[i].names, name)
	}
	if len(images) == 0 {
		return nil, badArchive("has no images")
	}
	return images, nil
}

// ociImage reads the image that d refers to; of an index, the one for Linux on
// this machine.
func (a *archive) ociImage(d v1.Descriptor, depth int) (*archiveImage, error) {
	raw, err := a.documentOf(d)
	if err != nil {
		return nil, err
	}
	if d.MediaType.IsIndex() {
		idx, err := parseIndex(raw)
		if err != nil {
			return nil, badArchive("has an index %s that %v", d.Digest, err)
		}
		i := platformOf(idx)
		if i < 0 || depth == 2 {
			return nil, badArchive("has no image for linux/%s", runtime.GOARCH)
		}
		return a.ociImage(idx.Manifests[i], depth+1)
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, badArchive("has a manifest %s that %v", d.Digest, err)
	}
	config, err := a.documentOf(m.Config)
	if err != nil {
		return nil, err
	}
	layers := map[v1.Hash]*fileLayer{}
	for _, l := range m.Layers {
		if !l.MediaType.IsDistributable() {
			continue // Put refuses it by name
		}
		file, err := a.blob(l)
		if err != nil {
			return nil, err
		}
		layers[l.Digest] = a.fileLayer(file, l)
	}
	return newArchiveImage(&archiveCore{d.MediaType, raw, config, layers})
}
