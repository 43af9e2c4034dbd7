package cosign

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// mediaType is a payload's as a layer.
	mediaType types.MediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	// annotation of such a layer is its signature, in base64.
	annotation = "dev.cosignproject.cosign/signature"

	payloadType = "cosign container image signature"

	// Bounds on what a registry may answer with.
	maxPayload    = 64 << 10
	maxSignatures = 256
)

// ErrNoSignature is wrapped where no signature of an image is by the key.
var ErrNoSignature = errors.New("no signature by this key")

// Tag is the tag of the image that holds the signatures of the one with this
// digest.
func Tag(digest v1.Hash) string { return digest.Algorithm + "-" + digest.Hex + ".sig" }

// Signature is one layer of such an image.
type Signature struct {
	Payload     []byte
	Annotations map[string]string // the signature, and what other tools add
}

// payload is what is signed. Its shape is "simple signing"'s:
// containers/image, docs/containers-signature.5.md.
type payload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// Sign signs the image by this digest. Repository is the one it lies in, which
// the signature names.
func Sign(repository string, digest v1.Hash, key *ecdsa.PrivateKey) (Signature, error) {
	var p payload
	p.Critical.Identity.Reference = repository
	p.Critical.Image.Digest = digest.String()
	p.Critical.Type = payloadType
	doc, err := json.Marshal(p)
	if err != nil {
		return Signature{}, fmt.Errorf("signing %s: %w", digest, err)
	}
	sum := sha256.Sum256(doc)
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return Signature{}, fmt.Errorf("signing %s: %w", digest, err)
	}
	return Signature{doc, map[string]string{annotation: base64.StdEncoding.EncodeToString(signature)}}, nil
}

// Verify checks that one of the signatures is of the image by this digest and
// by the key. Where there is none the error wraps ErrNoSignature.
func Verify(signatures []Signature, digest v1.Hash, key *ecdsa.PublicKey) error {
	for _, s := range signatures {
		signature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s.Annotations[annotation]))
		if err != nil {
			continue // another's business
		}
		sum := sha256.Sum256(s.Payload)
		if ecdsa.VerifyASN1(key, sum[:], signature) && names(s.Payload, digest) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", digest, ErrNoSignature)
}

// names reports whether a payload is about the image by this digest.
func names(doc []byte, digest v1.Hash) bool {
	var p payload
	return json.Unmarshal(doc, &p) == nil && p.Critical.Type == payloadType && p.Critical.Image.Digest == digest.String()
}

// Image is the image that holds signatures.
func Image(signatures []Signature) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, s := range signatures {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(s.Payload, mediaType), Annotations: s.Annotations})
		if err != nil {
			return nil, fmt.Errorf("making the image of signatures: %w", err)
		}
	}
	return img, nil
}

// Read returns the signatures that an image with this manifest holds; blob
// reads one of its layers. Layers that cannot be signatures are left out.
func Read(manifest *v1.Manifest, blob func(v1.Descriptor) ([]byte, error)) ([]Signature, error) {
	var all []Signature
	for _, d := range manifest.Layers {
		if d.MediaType != mediaType || d.Size > maxPayload || d.Annotations[annotation] == "" {
			continue
		}
		if len(all) == maxSignatures {
			return nil, fmt.Errorf("reading signatures: there are more than %d", maxSignatures)
		}
		doc, err := blob(d)
		if err != nil {
			return nil, fmt.Errorf("reading a signature: %w", err)
		}
		all = append(all, Signature{doc, d.Annotations})
	}
	return all, nil
}
