// Package vhd writes disks in Microsoft's "Virtual Hard Disk Image Format
// Specification" 1.0, fixed and dynamic, as Azure and Hyper-V take them. All
// its numbers are big-endian.
package vhd

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	sector = 512

	fixed   = 2
	dynamic = 3
	none    = 1<<64 - 1 // an offset of nothing

	// MaxSize is the largest disk that the format's readers take, in bytes.
	MaxSize = 2040 << 30
)

// WriteFooter makes a fixed VHD of a raw disk of so many bytes, which w has
// already: the footer follows it.
func WriteFooter(w io.WriterAt, size int64, id [16]byte) error {
	if err := check(size); err != nil {
		return err
	}
	_, err := w.WriteAt(footer(size, id, fixed, none), size)
	return err
}

// FooterSize is what a fixed VHD has beyond its disk, in bytes.
const FooterSize = sector

func check(size int64) error {
	if size <= 0 || size%sector != 0 || size > MaxSize {
		return fmt.Errorf("writing a VHD: a disk of %d bytes is out of bounds", size)
	}
	return nil
}

// footer is that of a disk. It says that Windows made it: programs disagree on
// whether a disk is as large as the footer says or as its geometry is, which
// cannot say all sizes, and Windows is known to mean the former (QEMU,
// block/vpc.c). There is no time in it, so that the same disk has the same one.
func footer(size int64, id [16]byte, kind uint32, header uint64) []byte {
	be := binary.BigEndian
	b := make([]byte, sector)
	copy(b, "conectix")
	be.PutUint32(b[8:], 2)           // no features; the bit is always set
	be.PutUint32(b[12:], 0x00010000) // version
	be.PutUint64(b[16:], header)
	copy(b[28:], "win \x00\x0a\x00\x00Wi2k")
	be.PutUint64(b[40:], uint64(size)) // as it was made
	be.PutUint64(b[48:], uint64(size))
	cylinders, heads, perTrack := geometry(size / sector)
	be.PutUint16(b[56:], uint16(cylinders))
	b[58], b[59] = byte(heads), byte(perTrack)
	be.PutUint32(b[60:], kind)
	copy(b[68:], id[:])
	be.PutUint32(b[64:], checksum(b))
	return b
}

// checksum is of a structure whose own checksum is zero yet.
func checksum(b []byte) uint32 {
	var sum uint32
	for _, v := range b {
		sum += uint32(v)
	}
	return ^sum
}

// geometry is that of a disk of so many sectors, by the specification's
// appendix "CHS Calculation".
func geometry(sectors int64) (cylinders, heads, perTrack int64) {
	sectors = min(sectors, 65535*16*255)
	if sectors >= 65535*16*63 {
		return sectors / 255 / 16, 16, 255
	}
	perTrack = 17
	byHeads := sectors / perTrack
	heads = max((byHeads+1023)/1024, 4)
	if byHeads >= heads*1024 || heads > 16 {
		perTrack, heads = 31, 16
		byHeads = sectors / perTrack
	}
	if byHeads >= heads*1024 {
		perTrack = 63
		byHeads = sectors / perTrack
	}
	return byHeads / heads, heads, perTrack
}
