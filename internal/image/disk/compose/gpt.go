package compose

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"math"
	"unicode/utf16"
)

const (
	sector     = 512
	entries    = 128 // of a partition table, each of entrySize bytes
	entrySize  = 128
	headerSize = 92
	tableSize  = entries * entrySize
)

// guid is a GUID as disks have it: the first three fields are little-endian
// (UEFI specification 2.10, appendix A).
type guid = [16]byte

// Types of partitions (UEFI specification 2.10, table 5.7, and the Discoverable
// Partitions Specification's generic one).
var (
	typeESP   = guid{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	typeLinux = guid{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}
)

// partition is one of a disk's; start and size are in bytes.
type partition struct {
	name        string
	kind        guid
	start, size int64
}

// identity is what all IDs on a disk are made of.
type identity [sha256.Size]byte

// guid is the ID of something on the disk, in the form that RFC 9562 section
// 5.8 leaves to applications (version 8).
func (id identity) guid(what string) guid {
	sum := sha256.Sum256(append(id[:], what...))
	g := guid(sum[:16])
	// Version and variant are bytes 7 and 8 of a GUID, and 6 and 8 where all
	// fields are big-endian; either reads as valid.
	g[6], g[7], g[8] = g[6]&0x0f|0x80, g[7]&0x0f|0x80, g[8]&0x3f|0x80
	return g
}

// gpt returns the disk's beginning, the protective MBR and the partition
// table, and its end, the other table (UEFI specification 2.10, sections 5.2.3
// and 5.3).
func gpt(l Layout, id identity) (front, end []byte) {
	le := binary.LittleEndian
	last := l.Size/sector - 1
	table := make([]byte, tableSize)
	for i, p := range l.parts {
		e := table[i*entrySize:]
		unique := id.guid(p.name)
		copy(e, p.kind[:])
		copy(e[16:], unique[:])
		le.PutUint64(e[32:], uint64(p.start/sector))
		le.PutUint64(e[40:], uint64((p.start+p.size)/sector-1))
		for j, c := range utf16.Encode([]rune(p.name)) { // 36 at most
			le.PutUint16(e[56+2*j:], c)
		}
	}
	header := func(own, other, tableAt int64) []byte {
		b := make([]byte, sector)
		copy(b, "EFI PART")
		le.PutUint32(b[8:], 0x10000) // revision 1.0
		le.PutUint32(b[12:], headerSize)
		le.PutUint64(b[24:], uint64(own))
		le.PutUint64(b[32:], uint64(other))
		le.PutUint64(b[40:], 2+tableSize/sector)
		le.PutUint64(b[48:], uint64(last-1-tableSize/sector))
		disk := id.guid("disk")
		copy(b[56:], disk[:])
		le.PutUint64(b[72:], uint64(tableAt))
		le.PutUint32(b[80:], entries)
		le.PutUint32(b[84:], entrySize)
		le.PutUint32(b[88:], crc32.ChecksumIEEE(table))
		le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerSize]))
		return b
	}
	secondTable := last - tableSize/sector
	return bytes.Join([][]byte{protectiveMBR(last), header(1, last, 2), table}, nil),
		bytes.Join([][]byte{table, header(last, 1, secondTable)}, nil)
}

// protectiveMBR has one partition that covers the disk to its last sector, as
// far as 32 bits reach.
func protectiveMBR(last int64) []byte {
	b := make([]byte, sector)
	e := b[446:]
	copy(e[1:], []byte{0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(last, math.MaxUint32)))
	b[510], b[511] = 0x55, 0xaa
	return b
}
