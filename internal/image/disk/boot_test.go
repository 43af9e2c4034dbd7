package disk_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"capstan/internal/image/disk"
	"capstan/internal/image/disk/disktest"
)

// espType is the type of an EFI system partition, as a GPT has it.
var espType = []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// gpt is a disk with a partition table of UEFI 2.10, 5.3, whose n. entry is an
// EFI system partition.
func gpt(n int, change func(header []byte)) []byte {
	b := make([]byte, 1<<20)
	le := binary.LittleEndian
	b[446+4] = 0xee
	le.PutUint16(b[510:], 0xaa55)
	header := b[512:]
	copy(header, "EFI PART")
	le.PutUint64(header[72:], 2)
	le.PutUint32(header[80:], 128)
	le.PutUint32(header[84:], 128)
	copy(b[1024+128*n:], espType)
	change(header)
	return b
}

func TestReadBoot(t *testing.T) {
	le := binary.LittleEndian
	keep := func([]byte) {}
	hybrid := gpt(1, keep)
	copy(hybrid, "code")
	data := make([]byte, 1<<20)
	le.PutUint16(data[510:], 0xaa55)
	vso := disktest.BIOS("", false)
	for _, tt := range []struct {
		name     string
		disk     []byte
		want     disk.Boot
		firmware string
	}{
		{"BIOS", append([]byte{0xfa}, vso[1:0x10]...), disk.Boot{}, ""},
		{"OSv", vso, disk.Boot{BIOS: true, OSv: true}, "bios"},
		{"EFI system partition first", gpt(0, keep), disk.Boot{EFI: true}, "uefi"},
		{"and last", gpt(127, keep), disk.Boot{EFI: true}, "uefi"},
		{"both", hybrid, disk.Boot{BIOS: true, EFI: true}, "bios"},
		{"no EFI system partition", gpt(128, keep), disk.Boot{}, ""},
		{"no GPT", gpt(0, func(h []byte) { h[0] = 'X' }), disk.Boot{}, ""},
		{"a table beyond the disk", gpt(0, func(h []byte) { le.PutUint64(h[72:], 1<<62) }), disk.Boot{}, ""},
		{"a table that is cut off", gpt(0, func(h []byte) { le.PutUint64(h[72:], 2047) }), disk.Boot{}, ""},
		{"an endless table", gpt(0, func(h []byte) { le.PutUint32(h[80:], 1<<31) }), disk.Boot{}, ""},
		{"entries of no size", gpt(0, func(h []byte) { le.PutUint32(h[84:], 0) }), disk.Boot{}, ""},
		{"nothing to boot", data, disk.Boot{}, ""},
		{"zeros", make([]byte, 4096), disk.Boot{}, ""},
	} {
		d, err := disk.Open(bytes.NewReader(tt.disk), int64(len(tt.disk)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.ReadBoot()
		if err != nil || got != tt.want || got.Firmware() != tt.firmware {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
}
