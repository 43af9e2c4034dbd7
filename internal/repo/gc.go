package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Report counts what was removed.
type Report struct {
	Images []v1.Hash // images that Prune removed
	Blobs  int
	Roots  int   // flattened roots
	Temp   int   // files and directories that killed processes left
	Bytes  int64 // of all of them
}

// PruneOptions says what Prune removes beyond garbage.
type PruneOptions struct {
	// Images also removes every image for which InUse returns nothing.
	Images bool
	InUse  func(v1.Hash) []string
	// Roots also removes the flattened roots of images that stay. They are
	// made anew when next needed.
	Roots bool
}

// Prune removes what no image needs and what killed processes have left. It
// disturbs no build, pull or run under way, and waits for none.
func (s *Store) Prune(ctx context.Context, opts PruneOptions) (Report, error) {
	var rep Report
	if _, err := os.Stat(s.layoutDir()); errors.Is(err, fs.ErrNotExist) {
		return rep, nil
	}
	var trash *stage
	err := s.locked(ctx, func() error {
		idx, err := s.readIndex()
		if err != nil {
			return err
		}
		var gone []v1.Hash
		if opts.Images {
			if gone, err = s.dropUnused(idx, opts.InUse); err != nil {
				return err
			}
		}
		rep, trash, err = s.collect(idx)
		rep.Images = gone
		return err
	})
	if trash != nil {
		trash.close()
	}
	if err == nil && opts.Roots {
		err = s.sweepRoots(&rep, nil)
	}
	if err != nil {
		return rep, fmt.Errorf("pruning the store: %w", err)
	}
	return rep, nil
}

// dropUnused takes the images that are not in use off the index.
func (s *Store) dropUnused(idx *v1.IndexManifest, inUse func(v1.Hash) []string) ([]v1.Hash, error) {
	keep := map[v1.Hash]bool{}
	var gone []v1.Hash
	var rest []v1.Descriptor
	for _, d := range idx.Manifests {
		if _, known := keep[d.Digest]; !known {
			keep[d.Digest] = inUse != nil && len(inUse(d.Digest)) > 0
			if !keep[d.Digest] {
				gone = append(gone, d.Digest)
			}
		}
		if keep[d.Digest] {
			rest = append(rest, d)
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	idx.Manifests = rest
	return gone, s.shrinkIndex(idx)
}

// collect removes garbage: blobs, roots and build records of images that are
// neither in idx nor pinned, and orphaned temporary files. The store's lock
// must be held. Blobs are only moved to the stage that it returns, if any: the
// caller closes that after giving the lock back, since freeing gigabytes takes
// time.
func (s *Store) collect(idx *v1.IndexManifest) (rep Report, trash *stage, err error) {
	pinned, err := s.sweepTemp(&rep)
	if err != nil {
		return rep, nil, err
	}
	live := map[string]bool{}
	for _, d := range idx.Manifests {
		if err := s.mark(d, live, 0); err != nil {
			return rep, nil, err
		}
	}
	for _, h := range pinned {
		if err := s.markPinned(h, live); err != nil {
			return rep, nil, err
		}
	}
	trash, err = s.newStageLocked()
	if err != nil && !isFull(err) { // on a full disk, free space at once
		return rep, nil, err
	}
	if err := s.sweepBlobs(&rep, live, trash); err != nil {
		return rep, trash, err
	}
	if err := s.sweepRoots(&rep, live); err != nil {
		return rep, trash, err
	}
	return rep, trash, s.sweepRecords(idx)
}

// maxNesting bounds indexes within indexes.
const maxNesting = 8

// mark adds d and all that it refers to to live. A manifest that is missing
// or corrupt refers to nothing: its image is lost, and what was its alone is
// garbage.
func (s *Store) mark(d v1.Descriptor, live map[string]bool, depth int) error {
	if live[d.Digest.Hex] || depth > maxNesting {
		return nil
	}
	live[d.Digest.Hex] = true
	children, err := s.children(d)
	var corrupt *CorruptError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &corrupt) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := s.mark(c, live, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// children returns what an index or manifest refers to; nothing for a blob
// that is neither.
func (s *Store) children(d v1.Descriptor) ([]v1.Descriptor, error) {
	known := d.MediaType.IsIndex() || d.MediaType.IsImage()
	if !known && d.MediaType != "" {
		return nil, nil
	}
	data, err := s.readDocument(d)
	if err != nil {
		return nil, err
	}
	if !known {
		d.MediaType = mediaTypeOf(data)
	}
	if d.MediaType.IsIndex() {
		idx, err := parseIndex(data)
		if err != nil {
			return nil, &CorruptError{Digest: d.Digest, Path: s.blobPath(d.Digest), Reason: err.Error()}
		}
		return idx.Manifests, nil
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, &CorruptError{Digest: d.Digest, Path: s.blobPath(d.Digest), Reason: err.Error()}
	}
	return blobsOf(m), nil
}

// markPinned marks an image that may not be in the index any more, so that
// neither its media type nor its size is known.
func (s *Store) markPinned(h v1.Hash, live map[string]bool) error {
	return s.mark(v1.Descriptor{Digest: h, Size: sizeOf(s.blobPath(h))}, live, 0)
}

// mediaTypeOf tells an index from a manifest by its members, for want of a
// better word.
func mediaTypeOf(data []byte) types.MediaType {
	var doc struct {
		Manifests json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(data, &doc) == nil && doc.Manifests != nil {
		return types.OCIImageIndex
	}
	return types.OCIManifestSchema1
}

// users returns the names of the images that need blob h; an image without a
// name is called by its digest.
func (s *Store) users(h v1.Hash) ([]string, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range idx.Manifests {
		live := map[string]bool{}
		if err := s.mark(d, live, 0); err != nil {
			return nil, err
		}
		if !live[h.Hex] {
			continue
		}
		if n := entryName(d); !n.IsZero() {
			names = append(names, n.String())
		} else {
			names = append(names, d.Digest.String())
		}
	}
	return names, nil
}

// sweepTemp removes what killed processes have left under tmp/ and returns
// what the stages of living ones pin. The store's lock must be held: files
// beside the stages belong to holders of the lock alone.
func (s *Store) sweepTemp(rep *Report) (pinned []v1.Hash, err error) {
	entries, err := os.ReadDir(s.tmpDir())
	if err != nil {
		return nil, fmt.Errorf("reading the store: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(s.tmpDir(), e.Name())
		if !e.IsDir() {
			rep.count(&rep.Temp, path)
			_ = os.Remove(path)
			continue
		}
		if !orphaned(path) {
			pinned = append(pinned, pins(path)...)
			continue
		}
		files, _ := os.ReadDir(path)
		for _, f := range files {
			rep.Bytes += sizeOf(filepath.Join(path, f.Name()))
		}
		rep.Temp++
		if err := os.RemoveAll(path); err != nil {
			return nil, fmt.Errorf("removing what a killed process left: %w", err)
		}
	}
	return pinned, nil
}

// pins returns the digests that a stage pins.
func pins(dir string) (pinned []v1.Hash) {
	files, _ := os.ReadDir(dir) // the stage may just be closing
	for _, f := range files {
		if hex, ok := strings.CutPrefix(f.Name(), pinPrefix); ok {
			pinned = append(pinned, v1.Hash{Algorithm: "sha256", Hex: hex})
		}
	}
	return pinned
}

func (s *Store) sweepBlobs(rep *Report, live map[string]bool, trash *stage) error {
	entries, err := os.ReadDir(s.blobsDir())
	if err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	for _, e := range entries {
		if live[e.Name()] {
			continue
		}
		path := filepath.Join(s.blobsDir(), e.Name())
		size := sizeOf(path)
		if trash != nil {
			err = os.Rename(path, filepath.Join(trash.dir, e.Name()))
		} else {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("removing a blob: %w", err)
		}
		rep.Blobs, rep.Bytes = rep.Blobs+1, rep.Bytes+size
	}
	return nil
}

// count adds the file at path to a counter of the report.
func (r *Report) count(n *int, path string) {
	*n, r.Bytes = *n+1, r.Bytes+sizeOf(path)
}

func sizeOf(path string) int64 {
	fi, err := os.Lstat(path)
	if err != nil || !fi.Mode().IsRegular() {
		return 0
	}
	return fi.Size()
}
