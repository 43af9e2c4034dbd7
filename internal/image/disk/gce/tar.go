// Package gce writes disks as Google's Compute Engine imports them: disk.raw in
// a tar archive of the old GNU format, packed by gzip. Its holes take no space
// in the archive (GNU tar's manual, "Storing Sparse Files").
package gce

import (
	"fmt"
	"io"
)

const (
	sector = 512

	// Unit is what a disk's size is a multiple of, in bytes.
	Unit = 1 << 30
)

// Write writes a disk of so many bytes. Its content is written twice, each time
// from the disk's beginning to its end: the archive begins with a map of it.
func Write(w io.Writer, size int64, content func(io.WriterAt) error) error {
	if size <= 0 || size%Unit != 0 {
		return fmt.Errorf("writing a disk for Compute Engine: its size, %d bytes, is not in whole GiB", size)
	}
	found := extents{size: size}
	if err := content(&found); err != nil {
		return err
	}
	packed := newPacker(w)
	defer packed.discard()
	if _, err := packed.Write(header(size, found.list)); err != nil {
		return err
	}
	data := writer{w: packed, left: found.list}
	if err := content(&data); err != nil {
		return err
	}
	if err := data.end(); err != nil {
		return err
	}
	if _, err := packed.Write(make([]byte, 2*sector)); err != nil { // the archive's end
		return err
	}
	return packed.Close()
}

// extent is a part of the disk that is not a hole.
type extent struct{ at, length int64 }

func (e extent) end() int64 { return e.at + e.length }

// extents note which sectors are written.
type extents struct {
	size int64
	list []extent
}

func (e *extents) WriteAt(p []byte, at int64) (int, error) {
	start, end := at/sector*sector, (at+int64(len(p))+sector-1)/sector*sector
	if at < 0 || at+int64(len(p)) > e.size {
		return 0, fmt.Errorf("writing beyond the end of the disk")
	}
	if len(p) == 0 {
		return 0, nil
	}
	last := len(e.list) - 1
	switch {
	case last < 0 || start > e.list[last].end():
		e.list = append(e.list, extent{start, end - start})
	case start >= e.list[last].end()-sector:
		e.list[last].length = max(end, e.list[last].end()) - e.list[last].at
	default:
		return 0, fmt.Errorf("writing at %d, where the disk is written up to %d", at, e.list[last].end())
	}
	return len(p), nil
}

// writer writes the sectors that are noted in left.
type writer struct {
	w    io.Writer
	left []extent
	at   int64 // of the disk, within the first of left or at its beginning
}

func (w *writer) WriteAt(p []byte, at int64) (int, error) {
	done := 0
	for done < len(p) {
		for len(w.left) > 0 && w.left[0].end() <= at {
			if err := w.fill(w.left[0].end()); err != nil {
				return done, err
			}
			w.left = w.left[1:]
		}
		if len(w.left) == 0 || at < w.left[0].at || at < w.at {
			return done, fmt.Errorf("the disk is written in another way than before, at %d", at)
		}
		if err := w.fill(at); err != nil {
			return done, err
		}
		n, err := w.w.Write(p[done:min(len(p), done+int(w.left[0].end()-at))])
		done += n
		at += int64(n)
		w.at = at
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// fill writes the zeros up to an offset of the extent.
func (w *writer) fill(to int64) error {
	w.at = max(w.at, w.left[0].at)
	_, err := w.w.Write(make([]byte, to-w.at))
	w.at = to
	return err
}

// end writes what is left of the last extent.
func (w *writer) end() error {
	if len(w.left) == 0 {
		return nil
	}
	if len(w.left) > 1 {
		return fmt.Errorf("the disk is written in another way than before, at its end")
	}
	return w.fill(w.left[0].end())
}
