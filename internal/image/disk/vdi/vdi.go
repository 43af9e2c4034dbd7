// Package vdi writes disks in VirtualBox's format, "dynamic" images of version
// 1.1, as src/VBox/Storage/VDICore.h has them. All its numbers are
// little-endian.
package vdi

import (
	"encoding/binary"
	"fmt"
	"io"

	"capstan/internal/image/disk/sparse"
)

const (
	block   = 1 << 20 // and what tables and blocks are aligned to
	mapAt   = block
	free    = 1<<32 - 1 // a block that was never written
	maxSize = 64 << 40
)

// Writer writes an image as its disk is written. A block of 1 MiB takes space
// once something is written to it; blocks lie in the file in the order in which
// that happened. The image is one after Close.
type Writer struct {
	sparse.Writer
	id     [16]byte
	blocks []uint32 // where each block of the disk is among those of the file
	used   uint32
}

// NewWriter returns a writer of an image of a disk of so many bytes. What it
// writes to is an empty file, or reads as zeros otherwise. VirtualBox knows a
// disk by its ID, and takes no two with the same one.
func NewWriter(w io.WriterAt, size int64, id [16]byte) (*Writer, error) {
	if size <= 0 || size%512 != 0 || size > maxSize {
		return nil, fmt.Errorf("writing a VDI: a disk of %d bytes is out of bounds", size)
	}
	v := &Writer{id: id, blocks: make([]uint32, (size+block-1)/block)}
	for n := range v.blocks {
		v.blocks[n] = free
	}
	v.Writer = sparse.Writer{W: w, Size: size, Block: block, Place: v.place}
	return v, nil
}

func (w *Writer) place(n int64) (int64, error) {
	if w.blocks[n] == free {
		w.blocks[n] = w.used
		w.used++
	}
	return w.data() + int64(w.blocks[n])*block, nil
}

// data is where the blocks begin.
func (w *Writer) data() int64 {
	return mapAt + (int64(len(w.blocks))*4+block-1)/block*block
}

// Close writes the map and the header. It does not close the file.
func (w *Writer) Close() error {
	table := make([]byte, 4*len(w.blocks))
	for n, at := range w.blocks {
		binary.LittleEndian.PutUint32(table[4*n:], at)
	}
	if err := w.Fill(w.data() + int64(w.used)*block); err != nil {
		return fmt.Errorf("writing the image's last block: %w", err)
	}
	if _, err := w.W.WriteAt(table, mapAt); err != nil {
		return fmt.Errorf("writing the image's map: %w", err)
	}
	if _, err := w.W.WriteAt(w.header(), 0); err != nil {
		return fmt.Errorf("writing the image's header: %w", err)
	}
	return nil
}

// header is VDIPREHEADER and VDIHEADER1PLUS. Fields that are not set are zero:
// no flags, no comment, no parent, no geometry.
func (w *Writer) header() []byte {
	const headerSize = 400
	le := binary.LittleEndian
	b := make([]byte, 0x48+headerSize)
	copy(b, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le.PutUint32(b[0x40:], 0xbeda107f)
	le.PutUint32(b[0x44:], 0x00010001)
	le.PutUint32(b[0x48:], headerSize)
	le.PutUint32(b[0x4c:], 1) // dynamic
	le.PutUint32(b[0x154:], mapAt)
	le.PutUint32(b[0x158:], uint32(w.data()))
	le.PutUint32(b[0x168:], 512) // a sector
	le.PutUint64(b[0x170:], uint64(w.Size))
	le.PutUint32(b[0x178:], block)
	le.PutUint32(b[0x180:], uint32(len(w.blocks)))
	le.PutUint32(b[0x184:], w.used)
	copy(b[0x188:], w.id[:])
	copy(b[0x198:], w.id[:]) // of its last change
	le.PutUint32(b[0x1d4:], 512)
	return b
}
