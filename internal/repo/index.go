package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// refName is the annotation that holds an entry's name: image-spec v1.1,
// annotations.md, "Pre-Defined Annotation Keys".
const refName = "org.opencontainers.image.ref.name"

// maxDocument bounds the index, manifests and configs, in bytes. Registries
// refuse manifests over 4 MiB.
const maxDocument = 8 << 20

// minPrefix is the fewest digits that may stand for a digest.
const minPrefix = 4

// readIndex reads the index without a lock; a store that does not exist yet
// is empty.
func (s *Store) readIndex() (*v1.IndexManifest, error) {
	f, err := os.Open(s.indexPath())
	if errors.Is(err, fs.ErrNotExist) {
		return parseIndex([]byte(`{"schemaVersion":2,"manifests":[]}`))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the store: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("reading the store: %w", err)
	}
	idx, err := parseIndex(data)
	if err != nil {
		return nil, &CorruptError{Path: s.indexPath(), Reason: "it " + err.Error()}
	}
	return idx, nil
}

// parseIndex reads and checks an image index (image-spec v1.1,
// image-index.md). Every descriptor that it returns may be used as a path.
func parseIndex(data []byte) (*v1.IndexManifest, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("is larger than %d MiB", maxDocument>>20)
	}
	var idx v1.IndexManifest
	if err := json.Unmarshal(data, &idx); err != nil {
		return nil, fmt.Errorf("is no image index: %w", jsonProblem(err))
	}
	if idx.SchemaVersion != 2 {
		return nil, fmt.Errorf("has schema version %d instead of 2", idx.SchemaVersion)
	}
	for _, d := range idx.Manifests {
		if err := checkDescriptor(d); err != nil {
			return nil, err
		}
	}
	return &idx, nil
}

// jsonProblem is err without the names that Go has for things.
func jsonProblem(err error) error {
	var odd *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &odd):
		return err
	case odd.Field == "":
		return fmt.Errorf("it is a JSON %s", odd.Value)
	}
	return fmt.Errorf("%s is a JSON %s", odd.Field, odd.Value)
}

// parseManifest reads and checks an image manifest (image-spec v1.1,
// manifest.md), or Docker's of schema version 2.
func parseManifest(data []byte) (*v1.Manifest, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("is larger than %d MiB", maxDocument>>20)
	}
	var m v1.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("is no image manifest: %w", jsonProblem(err))
	}
	if m.SchemaVersion != 2 {
		return nil, fmt.Errorf("has schema version %d instead of 2", m.SchemaVersion)
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(d); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

// checkDescriptor refuses what the store cannot hold.
func checkDescriptor(d v1.Descriptor) error {
	if d.Digest.Algorithm != "sha256" || len(d.Digest.Hex) != 64 {
		return fmt.Errorf("has a descriptor with digest %q, which is not SHA-256", clip(d.Digest.String()))
	}
	if d.Size < 0 {
		return fmt.Errorf("has a descriptor of size %d", d.Size)
	}
	return nil
}

// writeIndex replaces the index. The store's lock must be held.
func (s *Store) writeIndex(idx *v1.IndexManifest) error {
	idx.SchemaVersion, idx.MediaType = 2, types.OCIImageIndex
	if idx.Manifests == nil {
		idx.Manifests = []v1.Descriptor{}
	}
	data, err := json.Marshal(idx)
	if err != nil {
		return fmt.Errorf("writing the store's index: %w", err)
	}
	if len(data) > maxDocument {
		return fmt.Errorf("writing the store's index: %d images are too many for %d MiB", len(idx.Manifests), maxDocument>>20)
	}
	return s.replaceFile(s.indexPath(), data, true)
}

// setEntry makes d, under name, an entry of idx, in the place of one that had
// the name. It reports whether that changed anything.
func setEntry(idx *v1.IndexManifest, name Name, d v1.Descriptor) bool {
	notes := map[string]string{}
	for k, v := range d.Annotations {
		notes[k] = v
	}
	notes[refName] = name.key()
	d.Annotations = notes
	for i, old := range idx.Manifests {
		if hasKey(old, name.key()) {
			if old.Digest == d.Digest && old.Size == d.Size && sameOrigin(originOf(old), originOf(d)) {
				return false
			}
			idx.Manifests[i] = d
			return true
		}
	}
	idx.Manifests = append(idx.Manifests, d)
	return true
}

// hasKey reports whether d is stored under key. Other tools may leave out the
// tag.
func hasKey(d v1.Descriptor, key string) bool {
	ref := d.Annotations[refName]
	return ref == key || ref != "" && !strings.ContainsAny(ref, ":@") && ref+":"+DefaultTag == key
}

// entryName returns the name that d is stored under, or the zero Name where
// another tool gave none or an unusual one.
func entryName(d v1.Descriptor) Name {
	n, err := ParseName(d.Annotations[refName])
	if err != nil {
		return Name{}
	}
	return n
}

// find returns the entries of idx that ref means: the one of that name, or
// all of one digest, given whole or by a unique prefix of its digits. byName
// tells which.
func (s *Store) find(idx *v1.IndexManifest, ref string) (found []int, byName bool, err error) {
	hex, isDigest := strings.CutPrefix(ref, "sha256:")
	var nameErr error
	if !isDigest {
		var name Name
		if name, nameErr = ParseName(ref); nameErr == nil {
			if i := findName(idx, name); i >= 0 {
				return []int{i}, true, nil
			}
		}
	}
	if isPrefix(hex) {
		if found, err = findPrefix(idx, hex); err != nil || found != nil {
			return found, false, err
		}
	} else if nameErr != nil {
		return nil, false, nameErr
	}
	return nil, false, &NotFoundError{Ref: ref, Looked: []string{s.Place()}}
}

// findName returns the position of name in idx, or -1. A name with a digest
// is that digest under whichever tag of the repository.
func findName(idx *v1.IndexManifest, name Name) int {
	key, repository := name.key(), name.Repository()
	for i, d := range idx.Manifests {
		if name.Digest == (v1.Hash{}) {
			if hasKey(d, key) {
				return i
			}
		} else if (d.Digest == name.Digest || hadAs(d, name.Digest)) && entryName(d).Repository() == repository {
			return i
		}
	}
	return -1
}

func findPrefix(idx *v1.IndexManifest, hex string) (found []int, err error) {
	var digests []v1.Hash
	seen := map[v1.Hash]bool{}
	for i, d := range idx.Manifests {
		if strings.HasPrefix(d.Digest.Hex, hex) {
			found = append(found, i)
			if !seen[d.Digest] {
				seen[d.Digest] = true
				digests = append(digests, d.Digest)
			}
		}
	}
	if len(digests) > 1 {
		return nil, &AmbiguousError{Ref: hex, Digests: digests}
	}
	return found, nil
}

// isPrefix reports whether s may be the beginning of a digest's digits.
func isPrefix(s string) bool {
	return len(s) >= minPrefix && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}
