package osv

import (
	"context"
	"errors"
	"fmt"
	"io"

	"capstan/internal/image/disk"
	"capstan/internal/image/opaque"
	"capstan/internal/image/rofs"
	"capstan/internal/repo"
)

const (
	// rootAlignment is where the root file system may begin, as with old
	// Capstan; diskAlignment is what other formats and platforms like of a
	// disk's size.
	rootAlignment = 2 << 20
	diskAlignment = 1 << 20

	typeLinux = 0x83
)

// Image is a disk to be made.
type Image struct {
	Base *Base
	// Root is the root file system that takes the place of the base's; nil
	// leaves that as it is.
	Root *rofs.Tree
	Line string
	// Size is how large the disk is at least, in bytes.
	Size int64
	// Notes are about the image, and kept with it.
	Notes opaque.Options
}

// layout is where everything lies.
type layout struct {
	head  []byte // the beginning of the disk, as far as it differs from the base's
	keep  int64  // as much of the base stays
	start int64  // of the root file system, if there is a new one
	size  int64  // of the disk
}

func (i *Image) layOut() (layout, error) {
	l := layout{head: make([]byte, disk.OSvHead), keep: i.Base.disk.Size, size: i.Base.disk.Size}
	copy(l.head, i.Base.mbr)
	if err := disk.SetOSvLine(l.head, i.Line); err != nil {
		return l, &Error{err.Error(), "a shorter line: runscript /run/NAME reads commands from a file"}
	}
	if i.Root != nil {
		if err := i.placeRoot(&l); err != nil {
			return l, err
		}
	}
	if i.Size > 0 && i.Size < l.size {
		return l, &Error{fmt.Sprintf("a disk of %d MiB is too small: this one needs %d MiB", i.Size>>20, align(l.size, diskAlignment)>>20), "leave the size out: the disk is as large as its content"}
	}
	l.size = align(max(l.size, i.Size), diskAlignment)
	return l, nil
}

// placeRoot finds room for the root file system: where the base has its own,
// else behind it.
func (i *Image) placeRoot(l *layout) error {
	b := i.Base
	l.start = align(b.disk.Size, rootAlignment)
	if b.Kind != Loader {
		l.start = b.root.Start
	}
	l.keep = min(l.start, b.disk.Size)
	l.size = l.start + i.Root.Size()
	for n, p := range disk.Partitions(b.mbr) {
		if n != rootPartition && p.Type != 0 && p.End() > l.start {
			return &Error{fmt.Sprintf("its partition %d lies behind the root file system, which would be written over it", n+1), "another base: a loader without a file system, such as osv-loader"}
		}
	}
	p := disk.Partition{Type: typeLinux, Start: l.start, Size: i.Root.Size()}
	if err := disk.SetPartition(l.head, rootPartition, p); err != nil {
		return &Error{err.Error(), "a smaller base, or fewer files"}
	}
	return nil
}

func align(n, to int64) int64 { return (n + to - 1) / to * to }

// Write writes the disk, raw, from its first byte to its last. The same Image
// gives the same bytes.
func (i *Image) Write(ctx context.Context, w io.Writer) error {
	l, err := i.layOut()
	if err != nil {
		return err
	}
	return i.write(ctx, w, l)
}

func (i *Image) write(ctx context.Context, w io.Writer, l layout) error {
	out := &counted{ctx: ctx, w: w}
	if _, err := out.Write(l.head[:min(l.keep, int64(len(l.head)))]); err != nil {
		return err
	}
	rest := io.NewSectionReader(i.Base.disk, out.n, l.keep-out.n)
	if _, err := io.Copy(out, rest); err != nil {
		return fmt.Errorf("copying the base: %w", err)
	}
	if i.Root != nil {
		if err := out.zeros(l.start); err != nil {
			return err
		}
		if err := i.Root.Write(ctx, out); err != nil {
			return fmt.Errorf("writing the root file system: %w", err)
		}
	}
	return out.zeros(l.size)
}

// counted counts what is written, until its context ends.
type counted struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (c *counted) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// zeros writes zeros up to a position.
func (c *counted) zeros(to int64) error {
	buf := make([]byte, 1<<20)
	for c.n < to {
		if _, err := c.Write(buf[:min(to-c.n, int64(len(buf)))]); err != nil {
			return err
		}
	}
	return nil
}

// errTaken is the end of a disk of which no more is wanted.
var errTaken = errors.New("the disk is not wanted")

// Store makes the disk and puts it into the store as an image.
func (i *Image) Store(ctx context.Context, store *repo.Store, name repo.Name) (repo.Entry, opaque.Config, error) {
	l, err := i.layOut() // before anything is written
	if err != nil {
		return repo.Entry{}, opaque.Config{}, err
	}
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() { // ends at the latest when pr is closed, and is waited for
		err := i.write(ctx, pw, l)
		pw.CloseWithError(err)
		written <- err
	}()
	entry, config, err := opaque.Import(ctx, store, name, pr, i.Notes)
	pr.CloseWithError(errTaken)
	if werr := <-written; werr != nil && !errors.Is(werr, errTaken) {
		err = werr
	}
	return entry, config, err
}
