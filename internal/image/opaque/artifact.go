package opaque

import (
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const manifestType = types.OCIManifestSchema1

// artifact is a manifest with its config and its one layer, in the form in
// which the store takes images.
type artifact struct {
	manifest, config []byte
	layer            v1.Layer
}

var _ v1.Image = (*artifact)(nil)

func newArtifact(m v1.Manifest, config []byte, layer v1.Layer) (*artifact, error) {
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &artifact{manifest, config, layer}, nil
}

func (a *artifact) MediaType() (types.MediaType, error) { return manifestType, nil }
func (a *artifact) RawManifest() ([]byte, error)        { return a.manifest, nil }
func (a *artifact) RawConfigFile() ([]byte, error)      { return a.config, nil }
func (a *artifact) Manifest() (*v1.Manifest, error)     { return partial.Manifest(a) }
func (a *artifact) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(a) }
func (a *artifact) ConfigName() (v1.Hash, error)        { return partial.ConfigName(a) }
func (a *artifact) Digest() (v1.Hash, error)            { return partial.Digest(a) }
func (a *artifact) Size() (int64, error)                { return partial.Size(a) }
func (a *artifact) Layers() ([]v1.Layer, error)         { return []v1.Layer{a.layer}, nil }
func (a *artifact) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	return nil, fmt.Errorf("a disk image has no diff ID %s", h)
}

func (a *artifact) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	own, err := a.layer.Digest()
	if err != nil {
		return nil, err
	}
	if h != own {
		return nil, fmt.Errorf("a disk image has no layer %s", h)
	}
	return a.layer, nil
}
