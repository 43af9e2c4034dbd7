package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Boot is what a disk has for firmware to boot, as its first sectors show it.
type Boot struct {
	// BIOS: the first sector has code. EFI: there is an EFI system partition.
	BIOS, EFI bool
	// OSv: the code is OSv's loader, and a command line lies behind it.
	OSv bool
}

// Offsets in a master boot record, and types of its partitions.
const (
	mbrCode       = 440
	mbrPartitions = 446
	mbrSignature  = 510
	typeEFI       = 0xef
	typeGPT       = 0xee
)

// efiSystem is the type of an EFI system partition in a GPT: UEFI 2.10,
// 5.3.3, C12A7328-F81F-11D2-BA4B-00A0C93EC93B.
var efiSystem = []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// ReadBoot looks at the disk's first sectors.
func (d *Disk) ReadBoot() (Boot, error) {
	var mbr [sector]byte
	if _, err := d.ReadAt(mbr[:], 0); err != nil {
		return Boot{}, fmt.Errorf("reading the boot sector: %w", err)
	}
	if mbr[mbrSignature] != 0x55 || mbr[mbrSignature+1] != 0xaa {
		return Boot{}, nil
	}
	b := Boot{BIOS: !zero(mbr[:mbrCode]), OSv: isOSv(mbr[:])}
	for n := range 4 {
		switch mbr[mbrPartitions+16*n+4] {
		case typeEFI:
			b.EFI = true
		case typeGPT:
			efi, err := d.gptHasEFI()
			if err != nil {
				return b, err
			}
			b.EFI = b.EFI || efi
		}
	}
	return b, nil
}

// gptHasEFI looks for an EFI system partition in the GPT. A disk that boots
// otherwise need not have a whole one.
func (d *Disk) gptHasEFI() (bool, error) {
	found, err := d.searchGPT()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return found, err
}

// searchGPT reads the GPT: UEFI 2.10, 5.3.
func (d *Disk) searchGPT() (bool, error) {
	var header [sector]byte
	if _, err := d.ReadAt(header[:], sector); err != nil {
		return false, fmt.Errorf("reading the partition table: %w", err)
	}
	le := binary.LittleEndian
	table, count, size := le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:])
	if string(header[:8]) != "EFI PART" || table > uint64(d.Size/sector) || count > 1024 || size < 128 || size > 4096 {
		return false, nil
	}
	entry := make([]byte, size)
	for n := range int64(count) {
		if _, err := d.ReadAt(entry, int64(table)*sector+n*int64(size)); err != nil {
			return false, fmt.Errorf("reading the partition table: %w", err)
		}
		if bytes.Equal(entry[:16], efiSystem) {
			return true, nil
		}
	}
	return false, nil
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// Firmware is what boots the disk: "bios" where it has code for one, else
// "uefi"; "" where nothing does.
func (b Boot) Firmware() string {
	switch {
	case b.BIOS:
		return "bios"
	case b.EFI:
		return "uefi"
	}
	return ""
}
