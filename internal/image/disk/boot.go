package disk

import (
	"bytes"
	"fmt"
	"slices"
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
	// A disk that boots otherwise need not have a whole table.
	table, err := d.ReadTable()
	if err != nil {
		return b, err
	}
	b.EFI = slices.ContainsFunc(table.Entries, Entry.EFI)
	return b, nil
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
