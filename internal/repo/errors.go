package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrNotFound is wrapped by the *NotFoundError of a name or digest that the
// store does not have.
var ErrNotFound = errors.New("no such image")

// NotFoundError says which image was not found, and where it was looked for.
type NotFoundError struct {
	Ref     string
	Looked  []string // places, in the order of looking
	Unasked []string // places that were not looked in, because capstan is to be offline
	Login   string   // a registry that may have it for somebody who is logged in
}

func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("no image %q in %s", clip(e.Ref), strings.Join(e.Looked, ", "))
	if len(e.Unasked) > 0 {
		s += "; offline, so not looked for as " + strings.Join(e.Unasked, ", ")
	}
	return s
}

// Is makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// Hint names the commands that find and make images.
func (e *NotFoundError) Hint() string {
	hint := "capstan images lists what is there, capstan search what else is known; capstan build makes an image"
	if e.Login != "" {
		hint += "; capstan login " + e.Login + " if it is there"
	}
	return hint
}

// AmbiguousError is returned for a digest's prefix that several images share.
type AmbiguousError struct {
	Ref     string
	Digests []v1.Hash
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("digest %q fits %d images", clip(e.Ref), len(e.Digests))
}

// Hint lists the candidates.
func (e *AmbiguousError) Hint() string {
	var b strings.Builder
	for i, d := range e.Digests {
		if i == 8 {
			b.WriteString(" …")
			break
		}
		b.WriteString(" " + d.Hex[:16])
	}
	return "give more digits:" + b.String()
}

// CorruptError reports a file of the store that is not what it should be.
type CorruptError struct {
	Digest v1.Hash // zero for the index
	Path   string
	Reason string
	Images []string // names of the images that need the file
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("store file %s is corrupt: %s", e.Path, e.Reason)
}

// Hint says how to be rid of the file: an image's files are made anew once no
// image in the store needs the corrupt one.
func (e *CorruptError) Hint() string {
	if e.Digest == (v1.Hash{}) {
		return fmt.Sprintf("move %s away and build or pull the images again", e.Path)
	}
	if len(e.Images) == 0 {
		return "capstan prune removes it; then build or pull the image again"
	}
	return "capstan rmi -f " + strings.Join(e.Images, " ") + "; then build or pull again"
}

// InUseError is returned by Remove for an image that instances still need.
type InUseError struct {
	Digest v1.Hash
	By     []string // instances
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("image %s is used by %s", e.Digest.Hex[:12], strings.Join(e.By, ", "))
}

// Hint names the two ways out.
func (e *InUseError) Hint() string {
	return "capstan rm " + strings.Join(e.By, " ") + " first, or use -f"
}

// SeveralNamesError is returned by Remove for a digest that has several names.
type SeveralNamesError struct {
	Digest v1.Hash
	Names  []string
}

func (e *SeveralNamesError) Error() string {
	return fmt.Sprintf("image %s has several names: %s", e.Digest.Hex[:12], strings.Join(e.Names, ", "))
}

// Hint names the two ways out.
func (e *SeveralNamesError) Hint() string {
	return "remove the names one by one, or use -f to remove them all"
}

// FullError reports that a file system or a quota is full.
type FullError struct {
	FileSystem string // its mount point, or a path on it
	Err        error
}

func (e *FullError) Error() string {
	var cause syscall.Errno // what is around it names a temporary file
	errors.As(e.Err, &cause)
	return fmt.Sprintf("file system %s is full (%v)", e.FileSystem, cause)
}

// Unwrap returns the system's error.
func (e *FullError) Unwrap() error { return e.Err }

// Hint names what frees space.
func (e *FullError) Hint() string {
	return "capstan prune frees what no image needs; capstan rmi removes images"
}

// wrapWrite says what was being done to path, and turns a full disk into a
// *FullError.
func wrapWrite(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	var full *FullError
	if errors.As(err, &full) {
		return err
	}
	if isFull(err) {
		return &FullError{FileSystem: mountPoint(path), Err: err}
	}
	var link *os.LinkError // it names a temporary file
	if errors.As(err, &link) {
		return &fs.PathError{Op: doing, Path: path, Err: link.Err}
	}
	var perr *fs.PathError
	if errors.As(err, &perr) && perr.Path == path {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s %s: %w", doing, path, err)
}
