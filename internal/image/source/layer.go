package source

import (
	"context"
	"io"
	"io/fs"

	"capstan/internal/image/elf"
)

// Kind says what a layer is made from.
type Kind int

// The kinds of input.
const (
	Capstanfile Kind = iota + 1
	Directory
	Program
	Tar
)

func (k Kind) String() string {
	return [...]string{"", "Capstanfile", "directory", "program", "tar"}[k]
}

// Base tells what lies below the layer: the file system of the base image.
type Base interface {
	// Lookup returns the type bits of what is at a clean absolute path whose
	// parent directories are no symbolic links, and the target if that is a
	// symbolic link. It returns false if nothing is there.
	Lookup(path string) (typ fs.FileMode, target string, ok bool)
}

// Options are what planning needs beside the input. The zero value will do.
type Options struct {
	// Base is nil where the image is built on nothing.
	Base Base
	// Notes is told what the user may want to know, a sentence at a time. It
	// may be nil, and is only called while planning or writing goes on.
	Notes func(string)
}

func (o Options) note(s string) {
	if o.Notes != nil {
		o.Notes(s)
	}
}

// Layer is the plan of a layer.
type Layer struct {
	Kind Kind
	// Arch and Argv are what a program runs as: "amd64" or "arm64", and its
	// guest path. They are empty for other kinds.
	Arch string
	Argv []string

	dir  string   // what relative host paths are relative to
	top  *node    // nil for a tar
	tar  *tarball // nil but for a tar
	note func(string)
}

// WriteTar writes the layer as a tar stream. On an error, what has been
// written has no end and is no valid archive.
func (l *Layer) WriteTar(ctx context.Context, w io.Writer) error {
	if err := l.settle(ctx); err != nil {
		return err
	}
	if l.tar != nil {
		return l.tar.write(ctx, w, l.note)
	}
	return l.writeTree(ctx, w)
}

// ArchOf returns the architecture of the ELF program that the layer has at a
// guest path, or "" if the layer has none there.
func (l *Layer) ArchOf(guest string) string {
	if l.top == nil {
		return ""
	}
	t := &tree{top: l.top}
	n, err := t.find(guest)
	if err != nil || n == nil || !n.mode.IsRegular() || n.data != nil {
		return ""
	}
	r, err := openReader(l.dir)
	if err != nil {
		return ""
	}
	defer r.Close()
	f, err := r.open(n)
	if err != nil {
		return ""
	}
	defer f.Close()
	o, err := elf.Parse(f, n.size)
	if err != nil {
		return ""
	}
	return o.Arch
}
