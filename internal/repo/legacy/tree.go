package legacy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/repo"
)

// Image is an image of a tree.
type Image struct {
	Name  string // "namespace/name", or "name" of what was built here
	Path  string // of the disk
	Size  int64  // of its file
	Index Index
}

// Tree is a repository on this machine: the folder repository in the root of
// old Capstan, or any other of the same form. One that does not exist is empty.
type Tree struct{ dir string }

// TreeUnder returns the tree in a capstan root, where old Capstan had it.
func TreeUnder(root string) Tree { return Tree{filepath.Join(root, "repository")} }

// TreeAt returns the tree at dir: dir/repository, where that exists, else dir
// itself, which the very first Capstan had as its root.
func TreeAt(dir string) Tree {
	if t := TreeUnder(dir); t.exists() {
		return t
	}
	return Tree{dir}
}

func (t Tree) exists() bool {
	info, err := os.Stat(t.dir)
	return err == nil && info.IsDir()
}

// String is where the tree is.
func (t Tree) String() string { return t.dir }

// List returns the images, by name. What cannot be read or has no name that
// images have now is left out.
func (t Tree) List() ([]Image, error) {
	entries, err := os.ReadDir(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the old repository: %w", err)
	}
	var images []Image
	for _, e := range entries {
		if img, ok := t.find(e.Name()); ok {
			images = append(images, img)
			continue
		}
		inner, err := os.ReadDir(filepath.Join(t.dir, e.Name()))
		if err != nil {
			continue // a file, or nothing that one may look into
		}
		for _, e2 := range inner {
			if img, ok := t.find(e.Name() + "/" + e2.Name()); ok {
				images = append(images, img)
			}
		}
	}
	return images, nil
}

// Find returns the image of a name. Old Capstan had no tags: only the default
// one, and no digest, can mean its images.
func (t Tree) Find(n repo.Name) (Image, bool) {
	if n.Registry != "" || n.Digest != (v1.Hash{}) || n.Tag != repo.DefaultTag {
		return Image{}, false
	}
	return t.find(n.Repository())
}

func (t Tree) find(name string) (Image, bool) {
	if !validName(name) {
		return Image{}, false
	}
	dir := filepath.Join(t.dir, filepath.FromSlash(name))
	base := filepath.Join(dir, filepath.Base(dir))
	img := Image{Name: name}
	found := slices.ContainsFunc(endings, func(ending string) bool {
		img.Path = base + ending
		info, err := os.Stat(img.Path)
		if err != nil || !info.Mode().IsRegular() {
			return false
		}
		img.Size, img.Index.Created = info.Size(), info.ModTime()
		return true
	})
	if !found {
		return Image{}, false
	}
	f, err := os.Open(filepath.Join(dir, IndexFile))
	if err != nil {
		return img, true // images that were built here have none
	}
	defer f.Close()
	if index, err := readIndex(f); err == nil {
		if index.Created.IsZero() {
			index.Created = img.Index.Created
		}
		img.Index = index
	}
	return img, true
}
