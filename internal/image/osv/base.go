// Package osv makes disks that boot OSv. A disk of OSv's is, from its beginning
// on (arch/x64/boot16.S; scripts/imgedit.py; fs/vfs/main.cc,
// mount_rofs_rootfs): a boot sector with a partition table, the command line,
// at sector 128 the kernel, and in the second partition the root file system. A
// loader is such a disk without the latter, and may be called osv-loader.
//
// What this package writes is OSv's read-only file system. The other one, ZFS,
// only OSv itself can write. What becomes of a disk is left to package opaque.
package osv

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"capstan/internal/image/disk"
	"capstan/internal/image/rofs"
)

// rootPartition is the partition with the root file system: OSv's /dev/vblk0.1.
const rootPartition = 1

// Kind is what a disk has for a root file system.
type Kind int

// A Loader has none. Other is a file system that is not read here.
const (
	Loader Kind = iota
	ROFS
	ZFS
	Other
)

// Base is a disk of OSv's that was looked at.
type Base struct {
	Kind Kind
	Line string
	// Root is the root file system, where it is a ROFS.
	Root *rofs.FS

	disk *disk.Disk
	mbr  []byte
	root disk.Partition
}

// Error is what cannot be made of a disk, and the way out.
type Error struct{ text, hint string }

func (e *Error) Error() string { return e.text }

// Hint is the way out.
func (e *Error) Hint() string { return e.hint }

// Examine looks at a disk. The base reads from it later.
func Examine(d *disk.Disk) (*Base, error) {
	boot, err := d.ReadBoot()
	if err != nil {
		return nil, err
	}
	if !boot.OSv {
		return nil, &Error{"this is no disk of OSv's: its boot sector is another one", "a disk that OSv's loader boots, such as osv-loader"}
	}
	head := make([]byte, disk.OSvHead)
	if _, err := d.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the boot sector: %w", err)
	}
	b := &Base{Line: disk.OSvLine(head), disk: d, mbr: head[:512]}
	b.root = disk.Partitions(b.mbr)[rootPartition]
	if b.root.Type == 0 {
		return b, nil
	}
	if b.root.End() > d.Size {
		return nil, &Error{"this disk is damaged: its root file system lies beyond its end", "copy or download it again"}
	}
	return b, b.readRoot()
}

// readRoot looks at the root file system.
func (b *Base) readRoot() error {
	part := io.NewSectionReader(b.disk, b.root.Start, b.root.Size)
	head := make([]byte, rofs.Block)
	if _, err := part.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the root file system: %w", err)
	}
	if rofs.Recognise(head) {
		b.Kind = ROFS
		var err error
		b.Root, err = rofs.Open(part, b.root.Size)
		return err
	}
	zfs, err := isZFS(part)
	if err != nil {
		return fmt.Errorf("reading the root file system: %w", err)
	}
	b.Kind = Other
	if zfs {
		b.Kind = ZFS
	}
	return nil
}

// isZFS looks for an uberblock in the first label of a ZFS device: its magic,
// 0x00bab10c, begins one of the blocks of 1 KiB in its second 128 KiB (Sun's
// "ZFS On-Disk Specification", 1.3).
func isZFS(r io.ReaderAt) (bool, error) {
	label := make([]byte, 128<<10)
	n, err := r.ReadAt(label, int64(len(label)))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	for at := 0; at+8 <= n; at += 1 << 10 {
		if bytes.Equal(label[at:at+8], []byte{0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0}) {
			return true, nil
		}
	}
	return false, nil
}

// String says in a word or two what is on the disk.
func (k Kind) String() string {
	return [...]string{"a loader without a file system", "a read-only file system (ROFS)", "a ZFS file system", "a file system that is not known here"}[k]
}

// CanTakeFiles returns the error of adding files to a disk that cannot take
// any here.
func (b *Base) CanTakeFiles() error {
	switch b.Kind {
	case ZFS:
		return &Error{"it has a ZFS file system, which only OSv itself can write to, in a machine of its own",
			"as base a loader without a file system, such as osv-loader, and all files of the image in ROOTFS; or an image of Linux"}
	case Other:
		return &Error{"it has a file system that is not known here",
			"as base a loader without a file system, such as osv-loader; or an image of Linux"}
	}
	return nil
}
