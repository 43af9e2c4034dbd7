package rofs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Extract writes what is in the tree to an empty directory of the host. It
// leads nowhere out of that: symbolic links come last.
func (t *Tree) Extract(ctx context.Context, root *os.Root) error {
	names := map[int64][]string{} // by the first block of what is not empty
	var links []Entry
	again := copies(maxContent)
	for e := range t.Entries() {
		name := filepath.FromSlash(e.Path)
		var err error
		switch {
		case e.Type.IsDir():
			err = root.Mkdir(name, 0o777)
		case e.Type == fs.ModeSymlink:
			links = append(links, e)
		case e.Size > 0:
			names[e.block] = append(names[e.block], name)
		default:
			err = fill(root, name, strings.NewReader(""))
		}
		if err != nil {
			return err
		}
	}
	err := t.Contents(ctx, func(e Entry, content io.Reader) error {
		if e.Size == 0 { // it shares its block with what follows
			return nil
		}
		first := names[e.block][0]
		if err := fill(root, first, content); err != nil {
			return err
		}
		for _, name := range names[e.block][1:] {
			err := root.Link(first, name)
			if err != nil && !errors.Is(err, fs.ErrExist) {
				err = again.copy(root, first, name, e.Size)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range links {
		if err := root.Symlink(e.Target, filepath.FromSlash(e.Path)); err != nil {
			return err
		}
	}
	return nil
}

// copies are what is made of hard links where the host has none, or no more for
// a file: so many bytes may be.
type copies int64

func (left *copies) copy(root *os.Root, from, to string, size int64) error {
	if *left -= copies(size); *left < 0 {
		return &Error{fmt.Sprintf("there are more than %d GiB of copies in place of hard links, which is the bound", maxContent>>30), "a directory on a file system that has hard links"}
	}
	f, err := root.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return fill(root, to, f)
}

// fill makes a file. On hosts to which names in other letters are the same, two
// files may be one: then the second is an error.
func fill(root *os.Root, name string, content io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o777)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
