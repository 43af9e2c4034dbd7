// Package disk reads virtual disks that come from outside: it tells their
// format by what is in them, never by their name, says how large the disk is
// and reads its sectors. It refuses disks that are not whole in one file,
// because the name of another file in a disk is a way to read the host's, and
// disks whose tables lead beyond their end.
package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Format is a format of virtual disks.
type Format string

const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2" // QEMU's docs/interop/qcow2.txt, versions 2 and 3
	VMDK  Format = "vmdk"  // VMware's "Virtual Disk Format 5.0", hosted sparse extents
	VDI   Format = "vdi"   // VirtualBox, src/VBox/Storage/VDICore.h, version 1.1
	VHD   Format = "vhd"   // Microsoft's "Virtual Hard Disk Image Format Specification" 1.0, dynamic
)

// QEMU is what QEMU calls the format.
func (f Format) QEMU() string {
	if f == VHD {
		return "vpc"
	}
	return string(f)
}

// Formats are those that Open reads.
func Formats() []Format { return []Format{Raw, QCOW2, VMDK, VDI, VHD} }

const (
	sector = 512
	// MaxSize bounds virtual disks: what ext4, NTFS and the formats can do
	// ends near it.
	MaxSize = 64 << 40
	// HeadSize is how much of a file's beginning Recognise wants to see.
	HeadSize = 64 << 10
)

// Error is a disk that is refused, and what can be done about it.
type Error struct {
	Format Format
	Reason string // "it depends on another file"
	hint   string
}

func (e *Error) Error() string { return fmt.Sprintf("this %s disk is refused: %s", e.Format, e.Reason) }

// Hint is the way out.
func (e *Error) Hint() string { return e.hint }

func refuse(f Format, hint, format string, args ...any) error {
	if hint == "" {
		hint = again
	}
	return &Error{Format: f, Reason: fmt.Sprintf(format, args...), hint: hint}
}

// convert is the way out where a disk is not whole, or of a kind that is not
// read here.
const convert = "qemu-img convert -O qcow2 DISK NEW.qcow2, where you trust the disk and have all its files"

// again is the way out where a file ends too early or is damaged.
const again = "copy or download it again"

// Recognise tells the format of a disk by the first bytes of its file. What
// has no mark of another format is raw.
func Recognise(head []byte) (Format, error) {
	mark := func(at int, magic string) bool { return len(head) >= at && bytes.HasPrefix(head[at:], []byte(magic)) }
	switch {
	case mark(0, qcow2Magic) && !mark(4, "\x00\x00\x00\x01"):
		return QCOW2, nil
	case mark(0, vmdkMagic):
		return VMDK, nil
	case mark(0, vmdkText):
		return VMDK, refuse(VMDK, convert, "it only describes a disk that lies in other files")
	case mark(vdiMagicAt, vdiMagic):
		return VDI, nil
	case mark(0, vhdMagic):
		return VHD, nil
	}
	for _, other := range []struct {
		magic string
		name  Format
	}{
		{"QFI\xfb", "qcow, version 1,"}, {"vhdxfile", "VHDX"}, {"COWD", "VMDK, version 3,"},
		{"QED\x00", "QED"}, {"WithoutFreeSpace", "Parallels"}, {"WithouFreSpacExt", "Parallels"}, {"LUKS\xba\xbe", "LUKS"},
	} {
		if mark(0, other.magic) {
			return "", refuse(other.name, convert, "its format is none of raw, qcow2, vmdk, vdi and vhd")
		}
	}
	return Raw, nil
}

// Disk is an open virtual disk. It is for one goroutine.
type Disk struct {
	Format Format
	// Kind tells kinds of a format apart: "streamOptimized" is a VMDK's, and
	// "fixed" a VHD's, which is Raw but for its end; "" is the usual one.
	Kind   string
	Size   int64 // of the virtual disk, in bytes
	r      io.ReaderAt
	file   int64 // size of the file
	layout layout
	last   unpacked
}

// layout is where a format keeps the disk's blocks.
type layout interface {
	// block is their size in bytes.
	block() int64
	// locate says where block n is. How many blocks there are it need not
	// know.
	locate(n int64) (extent, error)
}

// extent is the place of a block in the file.
type extent struct {
	at     int64
	length int64 // bytes in the file; 0: the block is all zeros
	packed packing
	// zeros is of a block without bytes: how many blocks from it on are
	// known to have none either.
	zeros int64
}

// Open opens the disk in a file of so many bytes and reads its header.
func Open(r io.ReaderAt, size int64) (*Disk, error) {
	head := make([]byte, HeadSize)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the disk: %w", err)
	}
	d := &Disk{r: r, file: size}
	if d.Format, err = Recognise(head[:n]); err != nil {
		return nil, err
	}
	switch d.Format {
	case QCOW2:
		d.layout, d.Size, err = openQCOW2(r, size)
	case VMDK:
		d.layout, d.Size, err = openVMDK(r, size)
		if v, ok := d.layout.(*vmdk); ok && v.flags&vmdkCompressed != 0 {
			d.Kind = "streamOptimized"
		}
	case VDI:
		d.layout, d.Size, err = openVDI(r, size)
	case VHD:
		d.layout, d.Size, err = openVHD(r, size)
	default:
		own := RawSize(r, size)
		if own != size {
			d.Kind = "fixed"
		}
		d.Size = (own + sector - 1) &^ (sector - 1)
		d.layout = flat(size)
	}
	if err == nil && (d.Size <= 0 || d.Size > MaxSize) {
		err = refuse(d.Format, "", "its virtual size, %d bytes, is out of bounds", d.Size)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Check reads all tables and says whether they lead beyond the file's end.
func (d *Disk) Check() error {
	blocks := (d.Size + d.layout.block() - 1) / d.layout.block()
	entries := int64(0)
	for n := int64(0); n < blocks; {
		e, err := d.layout.locate(n)
		if err != nil {
			return d.broken(err)
		}
		if e.length > 0 && (e.at < 0 || e.length > d.file || e.at > d.file-e.length) {
			return refuse(d.Format, again, "it is truncated: block %d lies beyond its end", n)
		}
		// Every table lies in the file once: so it has no more entries, of
		// four bytes at least, than that.
		if entries++; entries > d.file/4+1 {
			return refuse(d.Format, "", "its tables overlap")
		}
		n += max(e.zeros, 1)
	}
	return nil
}

// ReadAt reads from the virtual disk.
func (d *Disk) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errors.New("reading a disk at a negative offset")
	}
	done := 0
	for done < len(p) {
		if at >= d.Size {
			return done, io.EOF
		}
		size := d.layout.block()
		n, within := at/size, at%size
		part := p[done:min(int64(len(p)), int64(done)+size-within, int64(done)+d.Size-at)]
		e, err := d.layout.locate(n)
		if err == nil {
			err = d.read(part, e, within)
		}
		if err != nil {
			return done, d.broken(err)
		}
		done += len(part)
		at += int64(len(part))
	}
	return done, nil
}

// Next is where there may be other bytes than zeros next, at or behind an
// offset, and the disk's size where there are none. Of a raw disk's file, the
// offset is another one afterwards.
func (d *Disk) Next(at int64) (int64, error) {
	if d.Format == Raw {
		return min(nextData(d.r, at), d.Size), nil
	}
	size := d.layout.block()
	for at < d.Size {
		e, err := d.layout.locate(at / size)
		if err != nil {
			return at, d.broken(err)
		}
		if e.length > 0 {
			return at, nil
		}
		at = (at/size + max(e.zeros, 1)) * size
	}
	return d.Size, nil
}

func (d *Disk) read(p []byte, e extent, within int64) error {
	if e.length == 0 {
		clear(p)
		return nil
	}
	if e.packed != plain {
		return d.unpack(p, e, within)
	}
	stored := p[:max(0, min(int64(len(p)), e.length-within))]
	clear(p[len(stored):])
	if n, err := d.r.ReadAt(stored, e.at+within); n < len(stored) {
		return err
	}
	return nil
}

// broken is the error of a disk whose file does not hold what it should.
func (d *Disk) broken(err error) error {
	var refused *Error
	if errors.As(err, &refused) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse(d.Format, again, "it is truncated")
	}
	return refuse(d.Format, "", "it cannot be read: %v", err)
}

// flat is the layout of a raw disk: one block, the file, and zeros behind it to
// the end of its last sector.
type flat int64

func (f flat) block() int64 { return max(int64(f), sector) }

func (f flat) locate(n int64) (extent, error) {
	if n > 0 {
		return extent{}, nil
	}
	return extent{length: int64(f)}, nil
}
