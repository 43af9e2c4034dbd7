package repo

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Lookup returns what the store has under ref, as it is: of a multi-platform
// image, the index.
func (s *Store) Lookup(ctx context.Context, ref string) (v1.Descriptor, error) {
	if err := ctx.Err(); err != nil {
		return v1.Descriptor{}, err
	}
	idx, err := s.readIndex()
	if err != nil {
		return v1.Descriptor{}, err
	}
	found, _, err := s.find(idx, ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return idx.Manifests[found[0]], nil
}

// Hold keeps what the image with the given digest needs from being collected
// until release is called, even if the image is removed meanwhile.
func (s *Store) Hold(ctx context.Context, digest v1.Hash) (release func(), err error) {
	st, err := s.newStage(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("holding image %s: %w", digest, err)
	}
	return st.close, nil
}

// Document returns a manifest or index, verified.
func (s *Store) Document(d v1.Descriptor) ([]byte, error) {
	data, err := s.readDocument(d)
	return data, s.explain(d.Digest.String(), err)
}

// Children returns what a manifest or index refers to.
func (s *Store) Children(d v1.Descriptor) ([]v1.Descriptor, error) {
	list, err := s.children(d)
	return list, s.explain(d.Digest.String(), err)
}

// Blob opens a blob. It is verified while it is read.
func (s *Store) Blob(d v1.Descriptor) (io.ReadCloser, error) {
	return (&diskLayer{store: s, desc: d}).Compressed()
}

// Elsewhere returns, for blobs of d, a repository at n's registry from which
// the store has them under another name.
func (s *Store) Elsewhere(d v1.Descriptor, n Name) (map[v1.Hash]Name, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	if err := s.mark(d, wanted, 0); err != nil {
		return nil, err
	}
	from := map[v1.Hash]Name{}
	for _, other := range idx.Manifests {
		name := entryName(other)
		if name.Registry != n.Registry || name.Repository() == n.Repository() {
			continue
		}
		live := map[string]bool{}
		if err := s.mark(other, live, 0); err != nil {
			return nil, err
		}
		for hex := range live {
			if wanted[hex] {
				from[v1.Hash{Algorithm: "sha256", Hex: hex}] = name
			}
		}
	}
	return from, nil
}
