//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"unicode/utf16"

	"capstan/guest/api"
)

// A partition table as internal/image/disk/compose writes it (UEFI
// specification 2.10, section 5.3). One of any other form is not ours to
// change.
const (
	sectorSize  = 512
	gptEntries  = 128
	gptEntry    = 128 // bytes
	gptHeader   = 92
	gptTable    = gptEntries * gptEntry
	gptSectors  = gptTable / sectorSize
	gptPlace    = 2                      // the table's first sector
	gptOther    = gptPlace + gptSectors  // where it is while it is changed
	gptReserved = gptOther + gptSectors  // no partition may begin before
	gptEnd      = (1 << 20) / sectorSize // the second table is in the last MiB
)

// table is a disk's partition table.
type table struct {
	header  [gptHeader]byte
	entries [gptTable]byte
	grown   int // the index of the partition that grows
}

func (t *table) field(at int) uint64      { return binary.LittleEndian.Uint64(t.header[at:]) }
func (t *table) place() uint64            { return t.field(72) }
func (t *table) backup() uint64           { return t.field(32) }
func (t *table) entry(i int) []byte       { return t.entries[i*gptEntry:][:gptEntry] }
func (t *table) bounds() (uint64, uint64) { return entryBounds(t.entry(t.grown)) }

// entryBounds are a partition's first and last sector.
func entryBounds(e []byte) (first, last uint64) {
	return binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
}

func entryName(e []byte) string {
	var units [36]uint16
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(e[56+2*i:])
	}
	name, _, _ := bytes.Cut([]byte(string(utf16.Decode(units[:]))), []byte{0})
	return string(name)
}

// errNotOurs is of a partition table that is left alone.
var errNotOurs = errors.New("the partition table is none that capstan wrote")

// readTable reads the partition table of a disk of so many sectors, and finds
// the partition that is to grow, which is the last one on the disk.
func readTable(r io.ReaderAt, sectors uint64, name string) (*table, error) {
	t := &table{grown: -1}
	if _, err := r.ReadAt(t.header[:], sectorSize); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	le := binary.LittleEndian
	sum := le.Uint32(t.header[16:])
	unsummed := t.header
	clear(unsummed[16:20])
	if string(t.header[:8]) != "EFI PART" || le.Uint32(t.header[8:]) != 0x10000 || le.Uint32(t.header[12:]) != gptHeader ||
		crc32.ChecksumIEEE(unsummed[:]) != sum || t.field(24) != 1 || le.Uint32(t.header[80:]) != gptEntries || le.Uint32(t.header[84:]) != gptEntry ||
		t.place() != gptPlace && t.place() != gptOther || sectors < 2*gptEnd || t.backup() >= sectors {
		return nil, errNotOurs
	}
	if _, err := r.ReadAt(t.entries[:], int64(t.place())*sectorSize); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	if crc32.ChecksumIEEE(t.entries[:]) != le.Uint32(t.header[88:]) {
		return nil, errNotOurs
	}
	var end uint64 // of the partitions
	config := false
	for i := range gptEntries {
		e := t.entry(i)
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first, last := entryBounds(e)
		if first < gptReserved || last < first || last >= sectors-1-gptSectors {
			return nil, errNotOurs
		}
		switch entryName(e) {
		case api.ConfigPartition:
			config = true
		case name:
			if t.grown >= 0 {
				return nil, errNotOurs
			}
			t.grown = i
		}
		end = max(end, last)
	}
	if !config || t.grown < 0 {
		return nil, errNotOurs
	}
	if _, last := t.bounds(); last != end {
		return nil, errNotOurs
	}
	return t, nil
}

// sealed returns the header of a table that lies at sector place, of the copy
// that is at sector own and has its other at sector other.
func (t *table) sealed(place, own, other, usable, lastUsable uint64) []byte {
	b := make([]byte, sectorSize)
	copy(b, t.header[:])
	le := binary.LittleEndian
	for at, v := range map[int]uint64{24: own, 32: other, 40: usable, 48: lastUsable, 72: place} {
		le.PutUint64(b[at:], v)
	}
	le.PutUint32(b[88:], crc32.ChecksumIEEE(t.entries[:]))
	clear(b[16:20])
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeader]))
	return b
}

// piece is what is written to a disk at once, and is there before the next is.
type piece struct {
	sector uint64
	data   []byte
}

// growth is what makes a table that covers a disk of so many sectors, and the
// partition that ends there. Whatever write the power fails in, the first
// sector of the first table leads to a whole one: the new table is written
// beside the old one, led to by that sector alone, and then back to where every
// table is.
func (t *table) growth(sectors uint64) []piece {
	grown := *t
	last, usable := sectors-1, sectors-2-gptSectors
	end := (sectors-gptEnd)&^(gptEnd-1) - 1
	if _, old := t.bounds(); end > old {
		binary.LittleEndian.PutUint64(grown.entry(grown.grown)[40:], end)
	}
	if grown.entries == t.entries && t.backup() == last && t.place() == gptPlace {
		return nil
	}
	const lead = 1
	pieces := []piece{
		{last - gptSectors, append(grown.entries[:], grown.sealed(last-gptSectors, last, lead, gptPlace+gptSectors, usable)...)},
	}
	if t.place() == gptPlace {
		pieces = append(pieces,
			piece{gptOther, grown.entries[:]},
			piece{lead, grown.sealed(gptOther, lead, last, gptOther+gptSectors, usable)})
	}
	return append(pieces,
		piece{gptPlace, grown.entries[:]},
		piece{lead, grown.sealed(gptPlace, lead, last, gptPlace+gptSectors, usable)})
}

// coverMBR returns the first sector with a protective partition that covers
// the disk; nil where it does, or has other partitions (section 5.2.3).
func coverMBR(mbr []byte, sectors uint64) []byte {
	const first, second = 446, 462
	size := uint32(min(sectors-1, math.MaxUint32))
	if mbr[first+4] != 0xee || binary.LittleEndian.Uint32(mbr[first+8:]) != 1 || len(bytes.Trim(mbr[second:510], "\x00")) > 0 ||
		mbr[510] != 0x55 || mbr[511] != 0xaa || binary.LittleEndian.Uint32(mbr[first+12:]) == size {
		return nil
	}
	b := bytes.Clone(mbr)
	binary.LittleEndian.PutUint32(b[first+12:], size)
	return b
}
