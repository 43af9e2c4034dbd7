//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blockDevice is a disk that is written to.
type blockDevice interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// growPartition enlarges a partition that ends where its disk once did: a disk
// can be made larger after it was exported. Only a table of ours is changed,
// and only where the named partition is its last.
func growPartition(dev, name string) error {
	dir, err := filepath.EvalSymlinks(filepath.Join("/sys/class/block", filepath.Base(dev)))
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(attribute(dir, "partition"))
	if err != nil {
		return nil // a disk of its own
	}
	whole := filepath.Dir(dir)
	sectors, err := strconv.ParseUint(attribute(whole, "size"), 10, 63)
	if err != nil || attribute(whole, "queue/logical_block_size") != strconv.Itoa(sectorSize) {
		return nil
	}
	disk, err := os.OpenFile(filepath.Join("/dev", filepath.Base(whole)), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	first, last, err := growTable(disk, sectors, name)
	if err != nil {
		if errors.Is(err, errNotOurs) {
			return nil
		}
		return err
	}
	size := (last - first + 1) * sectorSize
	if now, err := strconv.ParseUint(attribute(dir, "size"), 10, 63); err != nil || now*sectorSize >= size {
		return nil
	}
	return resizePartition(disk, number, first*sectorSize, size)
}

// growTable brings the partition table of a disk to its size, if it is of a
// smaller one, and returns the named partition's first and last sector.
func growTable(disk blockDevice, sectors uint64, name string) (first, last uint64, err error) {
	t, err := readTable(disk, sectors, name)
	if err != nil {
		return 0, 0, err
	}
	pieces := t.growth(sectors)
	mbr := make([]byte, sectorSize)
	if _, err := disk.ReadAt(mbr, 0); err != nil {
		return 0, 0, fmt.Errorf("reading the boot sector: %w", err)
	}
	if b := coverMBR(mbr, sectors); b != nil {
		pieces = append(pieces, piece{0, b})
	}
	for _, p := range pieces {
		if _, err := disk.WriteAt(p.data, int64(p.sector)*sectorSize); err != nil {
			return 0, 0, fmt.Errorf("writing the partition table: %w", err)
		}
		if err := disk.Sync(); err != nil {
			return 0, 0, fmt.Errorf("writing the partition table: %w", err)
		}
	}
	if t, err = readTable(disk, sectors, name); err != nil {
		return 0, 0, err
	}
	first, last = t.bounds()
	return first, last, nil
}

// resizePartition tells the kernel of a partition's new size: BLKPG, of
// linux/blkpg.h.
func resizePartition(disk *os.File, number int, start, length uint64) error {
	part := struct {
		start, length  int64
		number         int32
		device, volume [64]byte
	}{start: int64(start), length: int64(length), number: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("enlarging partition %d: %w", number, errno)
	}
	return nil
}
