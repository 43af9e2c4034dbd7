package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"capstan/internal/image/disk/sparse"
)

// Writer writes an image as its disk is written. A cluster takes space once
// something is written to it; clusters lie in the file in the order in which
// that happened, so that nothing is held back but the tables that lead to
// them: 64 KiB for each 512 MiB of the disk in which there is something. The
// image is one after Close.
type Writer struct {
	sparse.Writer
	l1   int64 // entries
	next int64 // the first free cluster of the file
	l2   map[int64][]uint64
}

// l1At is the cluster of the first table; before it are the header and the
// table of refcounts.
const l1At = 2

// NewWriter returns a writer of an image of a disk of so many bytes. What it
// writes to is an empty file, or reads as zeros otherwise.
func NewWriter(w io.WriterAt, size int64) (*Writer, error) {
	l1 := (size + cluster*perL2 - 1) / (cluster * perL2)
	if size <= 0 || size%512 != 0 || l1*8 > maxL1Bytes {
		return nil, fmt.Errorf("writing a qcow2 image: a disk of %d bytes is out of bounds", size)
	}
	q := &Writer{l1: l1, next: l1At + (l1*8+cluster-1)/cluster, l2: map[int64][]uint64{}}
	q.Writer = sparse.Writer{W: w, Size: size, Block: cluster, Place: q.place}
	return q, nil
}

// place returns where cluster n of the disk lies in the file.
func (w *Writer) place(n int64) (int64, error) {
	table := w.l2[n/perL2]
	if table == nil {
		table = make([]uint64, perL2)
		w.l2[n/perL2] = table
	}
	entry := &table[n%perL2]
	if *entry == 0 {
		*entry = uint64(w.allocate(1)) | copied
	}
	return int64(*entry &^ copied), nil
}

// allocate returns the place of the next clusters of the file.
func (w *Writer) allocate(n int64) int64 {
	at := w.next * cluster
	w.next += n
	return at
}

// Close writes the tables, and the header last. It does not close the file.
func (w *Writer) Close() error {
	be := binary.BigEndian
	l1 := make([]byte, w.l1*8)
	buf := make([]byte, cluster)
	for _, n := range slices.Sorted(maps.Keys(w.l2)) {
		for i, entry := range w.l2[n] {
			be.PutUint64(buf[8*i:], entry)
		}
		at := w.allocate(1)
		be.PutUint64(l1[8*n:], uint64(at)|copied)
		if _, err := w.W.WriteAt(buf, at); err != nil {
			return fmt.Errorf("writing the image's tables: %w", err)
		}
	}
	header := make([]byte, headerRead)
	putHeader(header, w.Size, l1At*cluster, w.l1)
	if _, err := w.W.WriteAt(l1, l1At*cluster); err != nil {
		return fmt.Errorf("writing the image's first table: %w", err)
	}
	if err := w.writeRefcounts(); err != nil {
		return fmt.Errorf("writing the image's reference counts: %w", err)
	}
	if _, err := w.W.WriteAt(header, 0); err != nil {
		return fmt.Errorf("writing the image's header: %w", err)
	}
	return nil
}

// writeRefcounts writes a count of one for every cluster of the file, those of
// the counts among them, at its end.
func (w *Writer) writeRefcounts() error {
	blocks := int64(1)
	for blocks*refcounts < w.next+blocks {
		blocks++
	}
	table := make([]byte, cluster)
	if blocks*8 > cluster {
		return errors.New("the image is too large")
	}
	at := w.allocate(blocks)
	buf := make([]byte, cluster)
	for i := range blocks {
		binary.BigEndian.PutUint64(table[8*i:], uint64(at+i*cluster))
		clear(buf)
		for n := range min(refcounts, w.next-i*refcounts) {
			binary.BigEndian.PutUint16(buf[2*n:], 1)
		}
		if _, err := w.W.WriteAt(buf, at+i*cluster); err != nil {
			return err
		}
	}
	_, err := w.W.WriteAt(table, cluster)
	return err
}
