package vmdk

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"capstan/internal/image/disk/sparse"
)

// Writer writes an image of the kind monolithicSparse as its disk is written. A
// grain of 64 KiB takes space once something is written to it; grains lie in
// the file in the order in which that happened. Its tables, which the format
// has twice, are holes where there is no grain. The image is one after Close.
type Writer struct {
	sparse.Writer
	options           Options
	redundant, tables tables
	grains            grains
	next              int64 // where the next grain goes
}

// NewWriter returns a writer of an image of a disk of so many bytes. What it
// writes to is an empty file, or reads as zeros otherwise.
func NewWriter(w io.WriterAt, size int64, o Options) (*Writer, error) {
	if err := check(size); err != nil {
		return nil, err
	}
	v := &Writer{options: o, redundant: newTables(tablesAt, size), grains: grains{}}
	v.tables = newTables(v.redundant.end(), size)
	v.next = v.overhead()
	v.Writer = sparse.Writer{W: w, Size: size, Block: grain, Place: v.place}
	return v, nil
}

// overhead is what comes before the grains.
func (w *Writer) overhead() int64 { return (w.tables.end() + grain - 1) / grain * grain }

func (w *Writer) place(n int64) (int64, error) {
	entry := w.grains.entry(n)
	if *entry == 0 {
		var err error
		if *entry, err = place(w.next); err != nil {
			return 0, err
		}
		w.next += grain
	}
	return int64(*entry) * sector, nil
}

// Close writes the tables, and the header last. It does not close the file.
func (w *Writer) Close() error {
	if err := w.Fill(w.next); err != nil {
		return fmt.Errorf("writing the image's last grain: %w", err)
	}
	for _, t := range []tables{w.redundant, w.tables} {
		if _, err := w.W.WriteAt(t.directory(), t.at); err != nil {
			return fmt.Errorf("writing the image's directory: %w", err)
		}
		for _, n := range slices.Sorted(maps.Keys(w.grains)) {
			if _, err := w.W.WriteAt(tableBytes(w.grains[n]), t.first()+n*gtSize); err != nil {
				return fmt.Errorf("writing the image's tables: %w", err)
			}
		}
	}
	if _, err := w.W.WriteAt(w.options.descriptor("monolithicSparse", w.Size), descriptorAt); err != nil {
		return fmt.Errorf("writing the image's descriptor: %w", err)
	}
	h := header{
		version: 1, flags: flagNewline | flagRedundant, capacity: w.Size,
		redundant: w.redundant.at, directory: w.tables.at, overhead: w.overhead(),
	}
	if _, err := w.W.WriteAt(h.bytes(), 0); err != nil {
		return fmt.Errorf("writing the image's header: %w", err)
	}
	return nil
}
