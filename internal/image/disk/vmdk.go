package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"regexp"
	"strings"
)

const (
	vmdkMagic = "KDMV"
	vmdkText  = "# Disk DescriptorFile"

	vmdkZeroGrains = 1 << 2
	vmdkCompressed = 1 << 16
	vmdkAtEnd      = 1<<64 - 1 // the directory's place stands in a footer

	// vmdkDescriptor is where the descriptor is that QEMU reads, whatever
	// the header says, and how much of it.
	vmdkDescriptor, vmdkDescriptorSize = sector, 20 * sector
)

// vmdk is the layout of a hosted sparse extent.
type vmdk struct {
	// The directory is read apart from the tables that it leads to, as each
	// keeps its last page.
	dir, t     *tables
	flags      uint32
	grain      int64 // bytes
	directory  int64 // offset
	perTable   int64
	grainCount int64
}

func openVMDK(r io.ReaderAt, size int64) (layout, int64, error) {
	var b [sector]byte
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return nil, 0, refuse(VMDK, "", "it ends within its header")
	}
	le := binary.LittleEndian
	capacity := le.Uint64(b[12:]) // of the disk: a footer's copy may not know it
	descriptorAt, descriptorSize := le.Uint64(b[28:]), le.Uint64(b[36:])
	if le.Uint64(b[56:]) == vmdkAtEnd {
		// The footer lies before the mark of the stream's end.
		if size < 4*sector {
			return nil, 0, refuse(VMDK, again, "it is truncated: it has no footer")
		}
		if _, err := r.ReadAt(b[:], size-2*sector); err != nil {
			return nil, 0, err
		}
		if string(b[:4]) != vmdkMagic {
			return nil, 0, refuse(VMDK, again, "it is truncated: it has no footer")
		}
	}
	if err := checkDescriptor(r, size, descriptorAt, descriptorSize); err != nil {
		return nil, 0, err
	}
	grain, perTable := le.Uint64(b[20:]), int64(le.Uint32(b[44:]))
	version, directory := le.Uint32(b[4:]), le.Uint64(b[56:])
	v := &vmdk{dir: newTables(r), t: newTables(r), flags: le.Uint32(b[8:]), perTable: perTable}
	switch {
	case version < 1 || version > 3:
		return nil, 0, refuse(VMDK, convert, "it is of version %d, and 1 to 3 are known", version)
	case capacity == 0 || le.Uint64(b[12:]) == 0:
		return nil, 0, refuse(VMDK, convert, "it only describes a disk that lies in other files")
	case capacity > MaxSize/sector:
		return nil, 0, refuse(VMDK, "", "its virtual size, %d sectors, is out of bounds", capacity)
	case grain == 0 || grain > maxBlock/sector || grain&(grain-1) != 0 || perTable == 0 || perTable > 1<<16:
		return nil, 0, refuse(VMDK, "", "its grains are out of bounds")
	case v.flags&vmdkCompressed != 0 && le.Uint16(b[77:]) != 1:
		return nil, 0, refuse(VMDK, convert, "its compression is not known")
	}
	v.grain = int64(grain) * sector
	v.grainCount = (int64(capacity)*sector + v.grain - 1) / v.grain
	tableCount := (v.grainCount + perTable - 1) / perTable
	if directory == 0 || directory > uint64(size/sector) || int64(directory)*sector > size-tableCount*4 {
		return nil, 0, refuse(VMDK, again, "it is truncated: its grain directory lies beyond its end")
	}
	v.directory = int64(directory) * sector
	return v, int64(capacity) * sector, nil
}

var vmdkCreateType = regexp.MustCompile(`(?m)^\s*createType\s*=\s*"([^"]*)"`)

// checkDescriptor refuses what a descriptor can say of other files: where the
// header says it is, and where QEMU reads it.
func checkDescriptor(r io.ReaderAt, size int64, at, length uint64) error {
	regions := [][2]int64{{vmdkDescriptor, vmdkDescriptorSize}}
	if at != 0 && length != 0 {
		if at > uint64(size/sector) || length > 2048 {
			return refuse(VMDK, "", "its descriptor is out of bounds")
		}
		regions = append(regions, [2]int64{int64(at) * sector, int64(length) * sector})
	}
	for _, region := range regions {
		text := make([]byte, min(region[1], max(size-region[0], 0)))
		if n, err := r.ReadAt(text, region[0]); err != nil && !(errors.Is(err, io.EOF) && n == len(text)) {
			return err
		}
		text, _, _ = bytes.Cut(text, []byte{0})
		if bytes.Contains(bytes.ToLower(text), []byte("parentfilenamehint")) {
			return refuse(VMDK, convert, "it depends on another disk, its parent")
		}
		if m := vmdkCreateType.FindSubmatch(text); m != nil &&
			!strings.EqualFold(string(m[1]), "monolithicSparse") && !strings.EqualFold(string(m[1]), "streamOptimized") {
			return refuse(VMDK, convert, "it is of the kind %.40q, which lies in several files", m[1])
		}
	}
	return nil
}

func (v *vmdk) block() int64 { return v.grain }

func (v *vmdk) locate(n int64) (extent, error) {
	if n >= v.grainCount {
		return extent{}, errors.New("a grain is beyond the directory")
	}
	le := binary.LittleEndian
	table, err := v.dir.uint32(le, v.directory+n/v.perTable*4)
	if err != nil {
		return extent{}, err
	}
	if table == 0 {
		return extent{zeros: v.perTable - n%v.perTable}, nil
	}
	grain, err := v.t.uint32(le, int64(table)*sector+n%v.perTable*4)
	if err != nil || grain == 0 || grain == 1 && v.flags&vmdkZeroGrains != 0 {
		return extent{}, err
	}
	at := int64(grain) * sector
	if v.flags&vmdkCompressed == 0 {
		return extent{at: at, length: v.grain}, nil
	}
	// A compressed grain: its first sector in 8 bytes, its length in 4, and
	// then the data.
	var head [12]byte
	if _, err := v.t.r.ReadAt(head[:], at); err != nil {
		return extent{}, err
	}
	length := le.Uint32(head[8:])
	if length == 0 || length > maxBlock {
		return extent{}, errors.New("a compressed grain is out of bounds")
	}
	return extent{at: at + 12, length: int64(length), packed: packedZlib}, nil
}
