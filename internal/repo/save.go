package repo

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Formats of archives of images.
const (
	// DockerArchive is what docker save writes and every docker load reads:
	// moby's image specification v1.2, "Combined Image JSON + Filesystem
	// Changeset Format".
	DockerArchive = "docker-archive"
	// OCIArchive is an OCI image layout (image-spec v1.1, image-layout.md) in
	// a tar. It keeps the digests.
	OCIArchive = "oci"
)

// Names of files in both kinds of archives.
const (
	dockerManifest = "manifest.json"
	ociIndex       = "index.json"
	ociLayout      = "oci-layout"
	ociBlobs       = "blobs/sha256"
	containerdName = "io.containerd.image.name" // a full name, beside refName
)

// dockerImage is an entry of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Save writes the images that refs mean to w, as an archive of the given
// format. Blobs are written as they are stored, each once, and verified while
// they are read; no image is collected before its last byte is written.
func (s *Store) Save(ctx context.Context, w io.Writer, format string, refs ...string) error {
	a := &archiveWriter{ctx: ctx, tar: tar.NewWriter(w), written: map[string]bool{}}
	add, finish := a.addDocker, a.finishDocker
	if format == OCIArchive {
		add, finish = a.addOCI, a.finishOCI
	} else if format != DockerArchive {
		return fmt.Errorf("saving: %q is no format of archives", format)
	}
	for _, ref := range refs {
		if err := s.save(ctx, ref, add); err != nil {
			return fmt.Errorf("saving image %s: %w", clip(ref), err)
		}
	}
	if err := finish(); err != nil {
		return fmt.Errorf("saving: %w", err)
	}
	if err := a.tar.Close(); err != nil {
		return fmt.Errorf("saving: %w", err)
	}
	return nil
}

// save adds one image, which stays for as long as that takes.
func (s *Store) save(ctx context.Context, ref string, add func(Entry, v1.Image) error) error {
	_, entry, err := s.Image(ctx, ref)
	if err != nil {
		return err
	}
	pin, err := s.newStage(ctx, entry.Digest)
	if err != nil {
		return err
	}
	defer pin.close()
	img, entry, err := s.Image(ctx, entry.Digest.String()) // or it was collected meanwhile
	if err != nil {
		return err
	}
	if name, err := ParseName(ref); err == nil && name.Digest == (v1.Hash{}) {
		entry.Name = name
	}
	return add(entry, img)
}

// archiveWriter writes one archive.
type archiveWriter struct {
	ctx     context.Context
	tar     *tar.Writer
	written map[string]bool
	docker  []dockerImage
	oci     []v1.Descriptor
}

// file adds a file whose content open returns, unless it is there.
func (a *archiveWriter) file(name string, size int64, open func() (io.ReadCloser, error)) error {
	if a.written[name] {
		return nil
	}
	a.written[name] = true
	if err := a.tar.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	r, err := open()
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{a.tar}, &ctxReader{ctx: a.ctx, r: r}, make([]byte, 256<<10))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return err
}

func (a *archiveWriter) document(name string, data []byte) error {
	return a.file(name, int64(len(data)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}

// layers adds an image's layers under the names that name gives them, and
// returns those.
func (a *archiveWriter) layers(img v1.Image, name func(v1.Descriptor) string) (names []string, err error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		layer, err := img.LayerByDigest(d.Digest)
		if err != nil {
			return nil, err
		}
		names = append(names, name(d))
		if err := a.file(name(d), d.Size, layer.Compressed); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// addDocker adds an image; another name of one that is there is all it adds.
func (a *archiveWriter) addDocker(entry Entry, img v1.Image) error {
	if entry.Disk != "" {
		return &NoLayersError{entry.Name.String(), "capstan save --format oci"}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	id, err := img.ConfigName()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(a.docker, func(d dockerImage) bool { return d.Config == id.Hex+".json" })
	if at < 0 {
		at = len(a.docker)
		if err := a.document(id.Hex+".json", config); err != nil {
			return err
		}
		layers, err := a.layers(img, func(d v1.Descriptor) string { return d.Digest.Hex + ".tar" })
		if err != nil {
			return err
		}
		a.docker = append(a.docker, dockerImage{Config: id.Hex + ".json", RepoTags: []string{}, Layers: layers})
	}
	// Docker's archives have no names with a digest.
	if tag := entry.Name.key(); entry.Name.Tag != "" && !slices.Contains(a.docker[at].RepoTags, tag) {
		a.docker[at].RepoTags = append(a.docker[at].RepoTags, tag)
	}
	return nil
}

func (a *archiveWriter) finishDocker() error {
	data, err := json.Marshal(a.docker)
	if err != nil {
		return err
	}
	return a.document(dockerManifest, data)
}

func (a *archiveWriter) addOCI(entry Entry, img v1.Image) error {
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	if _, err := a.layers(img, func(d v1.Descriptor) string { return blobName(d.Digest) }); err != nil {
		return err
	}
	if err := a.document(blobName(m.Config.Digest), config); err != nil {
		return err
	}
	if err := a.document(blobName(digest), manifest); err != nil {
		return err
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(manifest)), Annotations: map[string]string{}}
	if !entry.Name.IsZero() {
		d.Annotations[refName] = entry.Name.key()
	}
	if entry.Name.Registry != "" {
		d.Annotations[containerdName] = entry.Name.key()
	}
	if entry.Architecture != "" {
		d.Platform = &v1.Platform{OS: entry.OS, Architecture: entry.Architecture}
	}
	a.oci = append(a.oci, d)
	return nil
}

func (a *archiveWriter) finishOCI() error {
	data, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: a.oci})
	if err != nil {
		return err
	}
	if err := a.document(ociIndex, data); err != nil {
		return err
	}
	return a.document(ociLayout, []byte(layoutVersion))
}

func blobName(h v1.Hash) string { return path.Join(ociBlobs, h.Hex) }
