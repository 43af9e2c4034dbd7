package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	vdiMagic   = "\x7f\x10\xda\xbe"
	vdiMagicAt = 0x40
	vdiBlock   = 1 << 20 // all that QEMU and VirtualBox make
)

// vdi is the layout of a VirtualBox disk.
type vdi struct {
	t         *tables
	table     int64
	data      int64
	blocks    int64
	blockSize int64
}

func openVDI(r io.ReaderAt, size int64) (layout, int64, error) {
	var b [0x1d8]byte
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return nil, 0, refuse(VDI, "", "it ends within its header")
	}
	le := binary.LittleEndian
	v := &vdi{
		t: newTables(r), table: int64(le.Uint32(b[0x154:])), data: int64(le.Uint32(b[0x158:])),
		blockSize: int64(le.Uint32(b[0x178:])), blocks: int64(le.Uint32(b[0x180:])),
	}
	disk, kind := le.Uint64(b[0x170:]), le.Uint32(b[0x4c:])
	none := [16]byte{}
	switch {
	case le.Uint32(b[0x44:]) != 0x00010001:
		return nil, 0, refuse(VDI, convert, "its version is not 1.1")
	case kind != 1 && kind != 2:
		return nil, 0, refuse(VDI, "VBoxManage clonemedium makes one disk of a snapshot", "it is of type %d, which depends on other files", kind)
	case [16]byte(b[0x1a8:0x1b8]) != none || [16]byte(b[0x1b8:0x1c8]) != none:
		return nil, 0, refuse(VDI, "VBoxManage clonemedium makes one disk of a snapshot", "it depends on another disk, its parent")
	case v.blockSize != vdiBlock || le.Uint32(b[0x168:]) != sector || le.Uint32(b[0x17c:]) != 0:
		return nil, 0, refuse(VDI, convert, "its blocks are not of 1 MiB")
	case disk > MaxSize || v.blocks > MaxSize/vdiBlock || int64(disk) > v.blocks*vdiBlock:
		return nil, 0, refuse(VDI, "", "its map does not fit its virtual size")
	case v.table+v.blocks*4 > size || v.data%sector != 0 || v.table%sector != 0:
		return nil, 0, refuse(VDI, again, "it is truncated: its map lies beyond its end")
	}
	return v, int64(disk+sector-1) &^ (sector - 1), nil
}

func (v *vdi) block() int64 { return v.blockSize }

func (v *vdi) locate(n int64) (extent, error) {
	if n >= v.blocks {
		return extent{}, errors.New("a block is beyond its map")
	}
	entry, err := v.t.uint32(binary.LittleEndian, v.table+n*4)
	if err != nil {
		return extent{}, err
	}
	switch entry {
	case 1<<32 - 1, 1<<32 - 2: // never written, discarded
		return extent{}, nil
	}
	if int64(entry) >= v.blocks {
		return extent{}, fmt.Errorf("block %d is said to be the %d. of %d", n, entry, v.blocks)
	}
	return extent{at: v.data + int64(entry)*v.blockSize, length: v.blockSize}, nil
}
