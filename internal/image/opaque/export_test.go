package opaque

import v1 "github.com/google/go-containerregistry/pkg/v1"

// WithLayer is a disk image with another layer in the place of its own.
func WithLayer(img v1.Image, layer v1.Layer) (v1.Image, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	m = m.DeepCopy()
	if m.Layers[0].Digest, err = layer.Digest(); err != nil {
		return nil, err
	}
	if m.Layers[0].Size, err = layer.Size(); err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	return newArtifact(*m, config, layer)
}
