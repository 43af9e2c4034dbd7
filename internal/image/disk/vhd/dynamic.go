package vhd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"capstan/internal/image/disk/sparse"
)

const (
	block    = 2 << 20
	bitmap   = block / sector / 8 // before each block, a bit for each of its sectors
	headerAt = sector             // behind the footer's copy
	tableAt  = headerAt + 1024
	unused   = 1<<32 - 1
)

// Writer writes a dynamic VHD as its disk is written. A block of 2 MiB takes
// space once something is written to it; blocks lie in the file in the order in
// which that happened. The image is one after Close.
type Writer struct {
	sparse.Writer
	id     [16]byte
	blocks []uint32 // the sector of each block's bitmap
	next   int64    // where the next one goes
}

// NewWriter returns a writer of an image of a disk of so many bytes. What it
// writes to is an empty file, or reads as zeros otherwise.
func NewWriter(w io.WriterAt, size int64, id [16]byte) (*Writer, error) {
	if err := check(size); err != nil {
		return nil, err
	}
	v := &Writer{id: id, blocks: make([]uint32, (size+block-1)/block)}
	for n := range v.blocks {
		v.blocks[n] = unused
	}
	v.next = tableAt + v.tableSize()
	v.Writer = sparse.Writer{W: w, Size: size, Block: block, Place: v.place}
	return v, nil
}

// tableSize is that of the table of blocks, which fills whole sectors.
func (w *Writer) tableSize() int64 { return (int64(len(w.blocks))*4 + sector - 1) / sector * sector }

// place says of all sectors of a block that they are there, as what is not
// written reads as zeros.
func (w *Writer) place(n int64) (int64, error) {
	if w.blocks[n] == unused {
		if _, err := w.W.WriteAt(bytes.Repeat([]byte{0xff}, bitmap), w.next); err != nil {
			return 0, err
		}
		w.blocks[n] = uint32(w.next / sector)
		w.next += bitmap + block
	}
	return int64(w.blocks[n])*sector + bitmap, nil
}

// Close writes the tables and both footers. It does not close the file.
func (w *Writer) Close() error {
	table := bytes.Repeat([]byte{0xff}, int(w.tableSize()))
	for n, at := range w.blocks {
		binary.BigEndian.PutUint32(table[4*n:], at)
	}
	end := footer(w.Size, w.id, dynamic, headerAt)
	for _, part := range []struct {
		at      int64
		content []byte
	}{{w.next, end}, {tableAt, table}, {headerAt, w.header()}, {0, end}} {
		if _, err := w.W.WriteAt(part.content, part.at); err != nil {
			return fmt.Errorf("writing the image's tables: %w", err)
		}
	}
	return nil
}

// header is that of a dynamic disk.
func (w *Writer) header() []byte {
	be := binary.BigEndian
	b := make([]byte, tableAt-headerAt)
	copy(b, "cxsparse")
	be.PutUint64(b[8:], none)
	be.PutUint64(b[16:], tableAt)
	be.PutUint32(b[24:], 0x00010000) // version
	be.PutUint32(b[28:], uint32(len(w.blocks)))
	be.PutUint32(b[32:], block)
	be.PutUint32(b[36:], checksum(b))
	return b
}
