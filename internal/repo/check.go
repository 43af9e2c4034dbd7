package repo

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Problem is something that Check found wrong.
type Problem struct {
	Text   string   // one sentence
	Hint   string   // how to mend it
	Images []string // which images cannot be used because of it
}

// Check looks for what is wrong with the store: an index that cannot be read,
// blobs that are missing or have the wrong size and, if deep, blobs whose
// content is not what their digest says, for which it reads the whole store.
// It changes nothing and takes no lock. It ends early, with what it found,
// when ctx ends.
func (s *Store) Check(ctx context.Context, deep bool) []Problem {
	if fi, err := os.Stat(s.root); err == nil && !fi.IsDir() {
		return []Problem{{Text: s.root + " is not a directory", Hint: "set CAPSTAN_ROOT to another place"}}
	}
	idx, err := s.readIndex()
	if err != nil {
		return []Problem{problem(err)}
	}
	var problems []Problem
	seen := map[v1.Hash]bool{}
	for _, d := range idx.Manifests {
		problems = append(problems, s.checkBlob(ctx, d, deep, seen)...)
	}
	return problems
}

// checkBlob checks d, and what it refers to, unless it is in seen.
func (s *Store) checkBlob(ctx context.Context, d v1.Descriptor, deep bool, seen map[v1.Hash]bool) []Problem {
	if seen[d.Digest] || ctx.Err() != nil {
		return nil
	}
	seen[d.Digest] = true
	children, err := s.children(d)
	if err == nil {
		err = s.verify(ctx, d, deep)
	}
	if err != nil {
		err = s.explain(d.Digest.String(), err)
		if errors.Is(err, ErrNotFound) || ctx.Err() != nil {
			return nil // removed while this looked, or told to end
		}
		return []Problem{problem(err)}
	}
	var problems []Problem
	for _, c := range children {
		problems = append(problems, s.checkBlob(ctx, c, deep, seen)...)
	}
	return problems
}

// verify checks one blob's presence and size and, if deep, its content.
func (s *Store) verify(ctx context.Context, d v1.Descriptor, deep bool) error {
	r, err := s.openBlob(d.Digest, d.Size)
	if err != nil {
		return err
	}
	if deep {
		_, err = io.CopyBuffer(io.Discard, &ctxReader{ctx: ctx, r: r}, make([]byte, 256<<10))
	}
	r.err = fs.ErrClosed // read as far as was wanted
	if cerr := r.f.Close(); err == nil {
		err = cerr
	}
	return err
}

func problem(err error) Problem {
	p := Problem{Text: err.Error(), Hint: "check the permissions and the disk"}
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		p.Hint = hinter.Hint()
	}
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		p.Images = corrupt.Images
	}
	return p
}
