package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"capstan/internal/repo"
)

// maxDocument bounds manifests, indexes and configs, in bytes: what registries
// take of manifests, by the OCI distribution specification v1.1.
const maxDocument = 4 << 20

// maxNesting bounds indexes within indexes.
const maxNesting = 2

// accepted are the kinds of documents that a name may stand for.
var accepted = []types.MediaType{
	types.OCIManifestSchema1, types.OCIImageIndex, types.DockerManifestSchema2, types.DockerManifestList,
}

// Image is what a registry has for one platform. It holds the documents;
// Download gets the rest.
type Image struct {
	Name       repo.Name
	Descriptor v1.Descriptor // of the manifest
	Index      v1.Hash       // the index that it was chosen from, or zero
	Manifest   []byte
	Config     []byte
	Layers     []v1.Descriptor // each once, in order
	Disk       bool            // it is a disk image: its layer is no tar

	client *Client
	places []place // where to ask for blobs, in this order
}

// Top is the digest of what the name stands for: the index's, if it is one.
func (img *Image) Top() v1.Hash {
	if img.Index != (v1.Hash{}) {
		return img.Index
	}
	return img.Descriptor.Digest
}

// MediaTypeError is a document or layer of a kind that Capstan has no use for.
type MediaTypeError struct {
	What      string
	MediaType types.MediaType
	hint      string
}

func (e *MediaTypeError) Error() string {
	return fmt.Sprintf("%s is of type %s, which Capstan cannot use", e.What, oneLine(string(e.MediaType)))
}

// Hint says what can be done about it.
func (e *MediaTypeError) Hint() string { return e.hint }

// PlatformError is an image that is not there for the platform asked for.
type PlatformError struct {
	Name repo.Name
	Want v1.Platform
	Have []string
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("image %s is not there for %s", e.Name, e.Want)
}

// Hint lists the platforms there are.
func (e *PlatformError) Hint() string { return "--platform with one of: " + strings.Join(e.Have, " ") }

// Image looks up n, which names a registry, for a platform: at the registry's
// mirrors in order, and then at the registry. An image that is not there gives
// an error that is repo.ErrNotFound.
func (c *Client) Image(ctx context.Context, n repo.Name, platform v1.Platform) (*Image, error) {
	places, err := c.places(n)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, p := range places {
		img := &Image{Name: n, client: c, places: slices.Concat(places[i:], places[:i])}
		if err = img.find(ctx, p, platform); err == nil {
			return img, nil
		}
		if ctx.Err() != nil {
			break
		}
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		err = errs[len(errs)-1] // the registry's own word, not a mirror's
	}
	return nil, fmt.Errorf("looking up %s: %w", n, err)
}

// find reads the manifest and config at p.
func (img *Image) find(ctx context.Context, p place, platform v1.Platform) error {
	ref := img.Name.Tag
	if img.Name.Digest != (v1.Hash{}) {
		ref = img.Name.Digest.String()
	}
	data, d, err := img.document(ctx, p, ref)
	for depth := 0; err == nil && d.MediaType.IsIndex(); depth++ {
		if depth == 0 {
			img.Index = d.Digest
		} else if depth > maxNesting {
			return fmt.Errorf("its index holds indexes more than %d deep", maxNesting)
		}
		var child v1.Descriptor
		if child, err = choose(img.Name, data, platform); err != nil {
			return err
		}
		data, d, err = img.document(ctx, p, child.Digest.String())
	}
	if err != nil {
		return err
	}
	img.Descriptor, img.Manifest = d, data
	m, err := readManifest(data)
	if err != nil {
		return err
	}
	img.Disk = repo.IsDisk(m)
	seen := map[v1.Hash]bool{}
	for _, l := range m.Layers {
		if err := checkLayer(l); err != nil && !img.Disk {
			return err
		}
		if !seen[l.Digest] {
			seen[l.Digest] = true
			img.Layers = append(img.Layers, l)
		}
	}
	return img.readConfig(ctx, p, m)
}

// document reads a manifest or index by tag or digest.
func (img *Image) document(ctx context.Context, p place, ref string) ([]byte, v1.Descriptor, error) {
	var d v1.Descriptor
	session, err := img.client.session(ctx, p, transport.PullScope)
	if err != nil {
		return nil, d, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url("manifests", ref), nil)
	if err != nil {
		return nil, d, err
	}
	for _, t := range accepted {
		req.Header.Add("Accept", string(t))
	}
	what := p.repo.RepositoryStr() + ":" + ref
	if strings.Contains(ref, ":") {
		what = p.repo.RepositoryStr() + "@" + ref
	}
	data, header, err := small(session, req, maxDocument)
	if err != nil {
		return nil, d, explain(p, what, err)
	}
	d.Digest, d.Size, err = v1.SHA256(bytes.NewReader(data))
	if err != nil {
		return nil, d, err
	}
	if strings.Contains(ref, ":") && d.Digest.String() != ref {
		return nil, d, &Error{Host: p.host, Reason: fmt.Sprintf("gave for %s a document of the digest %s", ref, d.Digest)}
	}
	d.MediaType, err = kindOf(header.Get("Content-Type"), data)
	return data, d, err
}

// small does a request for a document of at most max bytes.
func small(session *http.Client, req *http.Request, max int64) ([]byte, http.Header, error) {
	resp, err := session.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err == nil && int64(len(data)) > max {
		err = &tooLargeError{max}
	}
	return data, resp.Header, err
}

// tooLargeError is a document beyond its bound.
type tooLargeError struct{ max int64 }

func (e *tooLargeError) Error() string { return fmt.Sprintf("more than %d bytes", e.max) }

// kindOf returns a document's media type: what it says itself, else what the
// registry says. A document that can be read as two kinds is refused: image
// specification v1.1, manifest.md and image-index.md, on "mediaType".
func kindOf(header string, data []byte) (types.MediaType, error) {
	var doc struct {
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		SchemaVersion int             `json:"schemaVersion"`
	}
	said, _, err := mime.ParseMediaType(header)
	if err != nil {
		said = ""
	}
	kind := types.MediaType(said)
	if kind.IsSchema1() {
		return "", unknownKind(kind)
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return "", errors.New("its manifest is no JSON document")
	}
	known := func(t types.MediaType) bool { return t.IsImage() || t.IsIndex() }
	switch {
	case doc.SchemaVersion == 1:
		return "", unknownKind(types.DockerManifestSchema1)
	case doc.Manifests != nil && doc.Layers != nil:
		return "", errors.New("its manifest is also an index, which is refused")
	case doc.MediaType != "" && known(kind) && doc.MediaType != kind:
		return "", fmt.Errorf("its manifest says it is of type %s, and the registry that it is of type %s", oneLine(string(doc.MediaType)), kind)
	case doc.MediaType != "":
		kind = doc.MediaType
	case !known(kind) && doc.Manifests != nil:
		kind = types.OCIImageIndex
	case !known(kind) && doc.Layers != nil:
		kind = types.OCIManifestSchema1
	}
	if !known(kind) || kind.IsIndex() && doc.Layers != nil || kind.IsImage() && doc.Manifests != nil {
		return "", unknownKind(kind)
	}
	return kind, nil
}

func unknownKind(kind types.MediaType) error {
	hint := "an image for containers"
	if kind.IsSchema1() {
		hint = "pushing it again with a tool of today: this format was given up in 2017"
	}
	return &MediaTypeError{What: "its manifest", MediaType: kind, hint: hint}
}

func readManifest(data []byte) (*v1.Manifest, error) {
	var m v1.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("its manifest is no image manifest: %w", err)
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if d.Digest.Algorithm != "sha256" || len(d.Digest.Hex) != 64 || d.Size < 0 {
			return nil, fmt.Errorf("its manifest has a blob %q of %d bytes, which cannot be", oneLine(d.Digest.String()), d.Size)
		}
	}
	return &m, nil
}

// checkLayer refuses layers that are kept elsewhere, and those of a kind that
// is no tar.
func checkLayer(d v1.Descriptor) error {
	switch {
	case !d.MediaType.IsDistributable():
		return &MediaTypeError{What: "layer " + d.Digest.String(), MediaType: d.MediaType, hint: "an image whose layers are all in the registry: this one's licence keeps some elsewhere"}
	case !d.MediaType.IsLayer():
		return &MediaTypeError{What: "layer " + d.Digest.String(), MediaType: d.MediaType, hint: "an image for containers: this may be a chart, a signature or the like"}
	}
	return nil
}

// readConfig reads the config, whose size and digest the manifest tells.
func (img *Image) readConfig(ctx context.Context, p place, m *v1.Manifest) error {
	d := m.Config
	if d.Size > maxDocument {
		return fmt.Errorf("its config has %d bytes, and no more than %d are allowed", d.Size, maxDocument)
	}
	if !d.MediaType.IsConfig() && !img.Disk {
		return &MediaTypeError{What: "its config", MediaType: d.MediaType, hint: "an image for containers: this may be a chart, a signature or the like"}
	}
	var buf buffer
	if err := img.download(ctx, p, d, &buf); err != nil {
		return fmt.Errorf("reading its config: %w", err)
	}
	got, _, err := v1.SHA256(bytes.NewReader(buf.data))
	if err != nil {
		return err
	}
	if got != d.Digest {
		return &repo.DigestError{Want: d.Digest, Got: got}
	}
	img.Config = buf.data
	if img.Disk {
		return nil // package opaque checks it, beside the disk
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(buf.data, &config); err != nil {
		return fmt.Errorf("its config is no image config: %w", err)
	}
	if n := len(config.RootFS.DiffIDs); n != len(m.Layers) {
		return fmt.Errorf("its manifest has %d layers, and its config %d", len(m.Layers), n)
	}
	return nil
}

// buffer is a Sink in memory.
type buffer struct{ data []byte }

func (b *buffer) Size() int64 { return int64(len(b.data)) }

func (b *buffer) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	return len(p), nil
}

// choose returns the entry of an index for a platform. Where no variant is
// asked for, an entry without one comes first.
func choose(n repo.Name, data []byte, want v1.Platform) (v1.Descriptor, error) {
	var idx v1.IndexManifest
	if err := json.Unmarshal(data, &idx); err != nil {
		return v1.Descriptor{}, fmt.Errorf("its index is no image index: %w", err)
	}
	best := -1
	var have []string
	for i, m := range idx.Manifests {
		p := m.Platform
		if p == nil || p.OS == "unknown" { // attestations
			continue
		}
		have = append(have, p.String())
		if !p.Satisfies(want) {
			continue
		}
		if best < 0 || idx.Manifests[best].Platform.Variant != "" && p.Variant == "" {
			best = i
		}
	}
	if best < 0 && len(have) == 0 && len(idx.Manifests) == 1 {
		best = 0 // it is for whatever it is for
	}
	if best < 0 {
		return v1.Descriptor{}, &PlatformError{Name: n, Want: want, Have: have}
	}
	return idx.Manifests[best], nil
}
