package repo

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Annotations of an image that was pulled, in the store's index.
const (
	originName   = "org.capstan.origin.name"
	originDigest = "org.capstan.origin.digest"
	originTime   = "org.capstan.origin.pulled"
)

// Origin is where an image was pulled from: what its tag meant then.
type Origin struct {
	Name   Name      `json:"name"`   // with its registry
	Digest v1.Hash   `json:"digest"` // of the index, where the registry had the image in one
	Pulled time.Time `json:"pulled"` // when it was first seen so
}

// setOrigin notes where d was pulled from.
func setOrigin(d *v1.Descriptor, o Origin) {
	d.Annotations = map[string]string{
		originName:   o.Name.String(),
		originDigest: o.Digest.String(),
		originTime:   o.Pulled.UTC().Format(time.RFC3339),
	}
}

// originOf returns what setOrigin noted, or nil.
func originOf(d v1.Descriptor) *Origin {
	name, err := ParseName(d.Annotations[originName])
	if err != nil {
		return nil
	}
	digest, err := v1.NewHash(d.Annotations[originDigest])
	if err != nil {
		return nil
	}
	pulled, err := time.Parse(time.RFC3339, d.Annotations[originTime])
	if err != nil {
		return nil
	}
	return &Origin{Name: name, Digest: digest, Pulled: pulled}
}

// sameOrigin compares but for the time.
func sameOrigin(a, b *Origin) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Digest == b.Digest
}

// hadAs reports whether the registry that d came from had it as digest.
func hadAs(d v1.Descriptor, digest v1.Hash) bool {
	o := originOf(d)
	return o != nil && o.Digest == digest
}
