package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Table is a disk's partition table.
type Table struct {
	Kind    string // "gpt" or "mbr"; "" where there is none
	Damaged bool   // its checksums are wrong, or it leads beyond the disk
	Entries []Entry
}

// Entry is a partition. Of one that leads beyond the disk, Start and Size are 0.
type Entry struct {
	Number      int
	Name        string // in a GPT
	Type        string // a GUID, or an MBR's byte such as "0x83"
	Start, Size int64  // in bytes
}

// EFI is whether it is an EFI system partition.
func (e Entry) EFI() bool { return e.Type == efiSystem || e.Type == mbrType(typeEFI) }

// efiSystem is the type of an EFI system partition in a GPT: UEFI 2.10, 5.3.3.
const efiSystem = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"

// Bounds of a GPT that is read.
const (
	maxGPTEntries   = 1024
	minGPTEntrySize = 128
	maxGPTEntrySize = 4096
)

// ReadTable reads the partition table.
func (d *Disk) ReadTable() (Table, error) {
	var mbr [sector]byte
	if _, err := d.ReadAt(mbr[:], 0); err != nil {
		return Table{}, fmt.Errorf("reading the boot sector: %w", err)
	}
	if mbr[mbrSignature] != 0x55 || mbr[mbrSignature+1] != 0xaa {
		return Table{}, nil
	}
	t := Table{}
	for n, p := range Partitions(mbr[:]) {
		switch {
		case p.Type == typeGPT:
			return d.readGPT()
		case p.Type == 0 || p.Size == 0:
			continue
		}
		e := Entry{Number: n + 1, Type: mbrType(p.Type)}
		if e.Start, e.Size = p.Start, p.Size; p.End() > d.Size {
			e.Start, e.Size, t.Damaged = 0, 0, true
		}
		t.Kind, t.Entries = "mbr", append(t.Entries, e)
	}
	return t, nil
}

func mbrType(b byte) string { return fmt.Sprintf("%#02x", b) }

// readGPT reads the first GPT: UEFI 2.10, 5.3.
func (d *Disk) readGPT() (Table, error) {
	damaged := Table{Kind: "gpt", Damaged: true}
	var header [sector]byte
	if _, err := d.ReadAt(header[:], sector); err != nil {
		return damaged, beyond(err)
	}
	le := binary.LittleEndian
	at, count, size := le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:])
	if string(header[:8]) != "EFI PART" || at > uint64(d.Size/sector) || count > maxGPTEntries || size < minGPTEntrySize || size > maxGPTEntrySize {
		return damaged, nil
	}
	table := make([]byte, count*size)
	if _, err := d.ReadAt(table, int64(at)*sector); err != nil {
		return damaged, beyond(err)
	}
	t := Table{Kind: "gpt", Damaged: !soundGPT(header[:], table)}
	for n := range int(count) {
		b := table[n*int(size):][:minGPTEntrySize]
		if zero(b[:16]) {
			continue
		}
		e := Entry{Number: n + 1, Type: guidText(b), Name: gptName(b[56:])}
		first, last := le.Uint64(b[32:]), le.Uint64(b[40:])
		if first > last || last >= uint64(d.Size/sector) {
			t.Damaged = true
		} else {
			e.Start, e.Size = int64(first)*sector, int64(last-first+1)*sector
		}
		t.Entries = append(t.Entries, e)
	}
	return t, nil
}

// beyond is the error of reading a table: none, where that lies beyond the disk.
func beyond(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("reading the partition table: %w", err)
}

// soundGPT is whether the checksums are right.
func soundGPT(header, table []byte) bool {
	le := binary.LittleEndian
	length, sum := le.Uint32(header[12:]), le.Uint32(header[16:])
	if length < 92 || length > sector {
		return false
	}
	own := bytes.Clone(header[:length])
	clear(own[16:20])
	return crc32.ChecksumIEEE(own) == sum && crc32.ChecksumIEEE(table) == le.Uint32(header[88:])
}

// guidText writes a GUID, whose first three fields are little-endian (UEFI
// 2.10, appendix A).
func guidText(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// gptName is a partition's name, of UTF-16 up to a zero.
func gptName(b []byte) string {
	var units []uint16
	for ; len(b) >= 2 && (b[0] != 0 || b[1] != 0); b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}
