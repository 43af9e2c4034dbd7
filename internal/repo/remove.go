package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// List returns the images of the store, one entry a name, sorted by name and
// then digest. An image that cannot be read is listed with its Problem.
func (s *Store) List(ctx context.Context) ([]Entry, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(idx.Manifests))
	read := map[v1.Hash]Entry{}
	for _, d := range idx.Manifests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		entry, ok := read[d.Digest]
		if !ok {
			_, entry, err = s.load(d)
			if err != nil {
				err = s.explain(d.Digest.String(), err)
				if errors.Is(err, ErrNotFound) {
					continue
				}
				entry.Problem = err.Error()
			}
			read[d.Digest] = entry
		}
		entry.Name, entry.Origin = entryName(d), originOf(d)
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		if c := strings.Compare(a.Name.String(), b.Name.String()); c != 0 {
			return c
		}
		return strings.Compare(a.Digest.Hex, b.Digest.Hex)
	})
	return entries, nil
}

// Names returns the names of the images, unsorted. It reads nothing but the
// index, and so is quick enough to complete names on a command line.
func (s *Store) Names(ctx context.Context) ([]Name, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	var names []Name
	for _, d := range idx.Manifests {
		if n := entryName(d); !n.IsZero() {
			names = append(names, n)
		}
	}
	return names, nil
}

// RemoveOptions says what Remove may remove.
type RemoveOptions struct {
	// InUse returns the instances that need the image, or is nil.
	InUse func(v1.Hash) []string
	// Force removes an image that is in use, and one that has several names.
	Force bool
}

// Removed says what Remove removed.
type Removed struct {
	Untagged []Name
	Deleted  []v1.Hash // images that no name is left for
	Freed    Report
}

// Remove takes the name ref away from its image or, where ref is a digest, the
// only name of that image, or with Force all. With its last name an image is
// gone, and with it what no other image shares: blobs, flattened roots and
// build records. Instances keep the roots that they have linked.
func (s *Store) Remove(ctx context.Context, ref string, opts RemoveOptions) (Removed, error) {
	var done Removed
	var trash *stage
	err := s.locked(ctx, func() error {
		idx, err := s.readIndex()
		if err != nil {
			return err
		}
		found, byName, err := s.find(idx, ref)
		if err != nil {
			return err
		}
		digest := idx.Manifests[found[0]].Digest
		if !byName && len(found) > 1 && !opts.Force {
			return &SeveralNamesError{Digest: digest, Names: entryNames(idx, found)}
		}
		last := !slices.ContainsFunc(others(idx, found), func(d v1.Descriptor) bool { return d.Digest == digest })
		if last && opts.InUse != nil && !opts.Force {
			if by := opts.InUse(digest); len(by) > 0 {
				return &InUseError{Digest: digest, By: by}
			}
		}
		for _, i := range found {
			if n := entryName(idx.Manifests[i]); !n.IsZero() {
				done.Untagged = append(done.Untagged, n)
			}
		}
		idx.Manifests = others(idx, found)
		if err := s.shrinkIndex(idx); err != nil {
			return err
		}
		if !last {
			return nil
		}
		done.Deleted = []v1.Hash{digest}
		done.Freed, trash, err = s.collect(idx)
		return err
	})
	if trash != nil {
		trash.close()
	}
	if err != nil {
		return done, fmt.Errorf("removing image %s: %w", clip(ref), err)
	}
	return done, nil
}

// shrinkIndex writes an index that has lost entries. On a full disk, where
// there is no room even for that, it first removes what those entries alone
// needed: a kill in between leaves an image that cannot be read, and can be
// removed again. The store's lock must be held.
func (s *Store) shrinkIndex(idx *v1.IndexManifest) error {
	err := s.writeIndex(idx)
	if !isFull(err) {
		return err
	}
	_, trash, cerr := s.collect(idx)
	if trash != nil {
		trash.close()
	}
	return errors.Join(cerr, s.writeIndex(idx))
}

// others returns the entries of idx but those at the given positions.
func others(idx *v1.IndexManifest, without []int) []v1.Descriptor {
	rest := make([]v1.Descriptor, 0, len(idx.Manifests))
	for i, d := range idx.Manifests {
		if !slices.Contains(without, i) {
			rest = append(rest, d)
		}
	}
	return rest
}

func entryNames(idx *v1.IndexManifest, at []int) []string {
	names := make([]string, 0, len(at))
	for _, i := range at {
		names = append(names, idx.Manifests[i].Annotations[refName])
	}
	return names
}
