package disk

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

const vhdMagic = "conectix"

// Types of disks in a VHD's footer.
const (
	vhdFixed   = 2
	vhdDynamic = 3
)

const vhdUnused = 1<<32 - 1

// vhd is the layout of a dynamic VHD.
type vhd struct {
	t         *tables
	table     int64
	entries   int64
	blockSize int64
}

// vhdFooter is the part that is needed of a VHD's footer, whose copy begins a
// dynamic one.
type vhdFooter struct {
	kind    uint32
	header  int64 // offset of a dynamic disk's header
	size    int64
	chs     int64 // size by its geometry
	creator string
}

// parseVHDFooter reads a footer, and reports whether it is one.
func parseVHDFooter(b []byte) (vhdFooter, bool) {
	be := binary.BigEndian
	if len(b) < sector || string(b[:8]) != vhdMagic || be.Uint32(b[64:]) != vhdSum(b[:sector], 64) {
		return vhdFooter{}, false
	}
	return vhdFooter{
		kind: be.Uint32(b[60:]), header: int64(be.Uint64(b[16:])), size: int64(be.Uint64(b[48:])),
		chs: int64(be.Uint16(b[56:])) * int64(b[58]) * int64(b[59]) * sector, creator: string(b[28:32]),
	}, true
}

// vhdSum is the checksum of a structure whose own checksum is at an offset:
// the complement of the sum of all other bytes.
func vhdSum(b []byte, own int) uint32 {
	var sum uint32
	for n, v := range b {
		if n < own || n >= own+4 {
			sum += uint32(v)
		}
	}
	return ^sum
}

func openVHD(r io.ReaderAt, size int64) (layout, int64, error) {
	var b [1024]byte
	if _, err := r.ReadAt(b[:sector], 0); err != nil {
		return nil, 0, refuse(VHD, "", "it ends within its footer's copy")
	}
	f, ok := parseVHDFooter(b[:sector])
	switch {
	case !ok:
		return nil, 0, refuse(VHD, again, "its footer's checksum is wrong")
	case f.kind != vhdDynamic:
		return nil, 0, refuse(VHD, convert, "it is of type %d, and may depend on other files", f.kind)
	case f.size%sector != 0:
		return nil, 0, refuse(VHD, "", "its virtual size, %d, is no number of sectors", f.size)
	case qemuSize(f) != f.size:
		return nil, 0, refuse(VHD, "VBoxManage clonemedium --format VDI DISK NEW.vdi", "hypervisors do not agree on its size: %d or %d bytes", f.size, qemuSize(f))
	case f.header < sector || f.header > size-int64(len(b)):
		return nil, 0, refuse(VHD, again, "it is truncated: its header lies beyond its end")
	}
	if _, err := r.ReadAt(b[:], f.header); err != nil {
		return nil, 0, err
	}
	be := binary.BigEndian
	v := &vhd{t: newTables(r), table: int64(be.Uint64(b[16:])), entries: int64(be.Uint32(b[28:])), blockSize: int64(be.Uint32(b[32:]))}
	switch {
	case string(b[:8]) != "cxsparse" || be.Uint32(b[36:]) != vhdSum(b[:], 36):
		return nil, 0, refuse(VHD, again, "its header is damaged")
	case v.blockSize < sector || v.blockSize > 1<<30 || v.blockSize&(v.blockSize-1) != 0:
		return nil, 0, refuse(VHD, "", "its blocks of %d bytes are out of bounds", v.blockSize)
	case (f.size+v.blockSize-1)/v.blockSize > v.entries:
		return nil, 0, refuse(VHD, "", "its table does not fit its virtual size")
	case v.table < sector || v.table%sector != 0 || v.table > size-v.entries*4:
		return nil, 0, refuse(VHD, again, "it is truncated: its table lies beyond its end")
	}
	return v, f.size, nil
}

// qemuSize is how large QEMU takes the disk to be: by its geometry, unless a
// program made it that is known to mean the other field (block/vpc.c).
func qemuSize(f vhdFooter) int64 {
	const largest = 65535 * 16 * 255 * sector
	exact := []string{"win ", "qem2", "d2v ", "tap\x00", "CTXS", "wa\x00\x00", "wa  "}
	if slices.Contains(exact, f.creator) || f.chs == largest {
		return f.size
	}
	return f.chs
}

func (v *vhd) block() int64 { return v.blockSize }

func (v *vhd) locate(n int64) (extent, error) {
	if n >= v.entries {
		return extent{}, errors.New("a block is beyond its table")
	}
	entry, err := v.t.uint32(binary.BigEndian, v.table+n*4)
	if err != nil || entry == vhdUnused {
		return extent{}, err
	}
	bitmap := (v.blockSize/sector/8 + sector - 1) &^ (sector - 1)
	return extent{at: int64(entry)*sector + bitmap, length: v.blockSize}, nil
}

// RawSize is the size of the disk in a file without a mark at its beginning:
// that of the file, but for the footer of a fixed VHD, which says itself.
func RawSize(r io.ReaderAt, size int64) int64 {
	var b [sector]byte
	if size < sector {
		return size
	}
	if _, err := r.ReadAt(b[:], size-sector); err != nil {
		return size
	}
	return RawSizeOf(b[:], size)
}

// RawSizeOf is RawSize of a file of which only the last 512 bytes are at hand.
func RawSizeOf(tail []byte, size int64) int64 {
	f, ok := parseVHDFooter(tail)
	if ok && f.kind == vhdFixed && f.size > 0 && f.size <= size-sector {
		return f.size
	}
	return size
}
