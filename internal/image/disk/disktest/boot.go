// Package disktest makes disks that boot, for tests: a few hundred bytes of
// machine code that show on the serial port what firmware booted them with.
package disktest

import (
	"encoding/binary"
	"math/rand"
)

// Size is the size of the disks in bytes.
const Size = 6 << 20

// BIOS is a raw disk whose boot sector does what OSv's loader does first: it
// reads the 63 sectors behind itself, where OSv's command line is. It writes
// the line to the first serial port, and then, "starts: N", how often it
// booted, which it counts on the disk. Then it powers the machine off; or, if
// it waits, echoes what comes in on the serial port until somebody presses the
// power button.
func BIOS(line string, waits bool) []byte {
	disk := make([]byte, Size)
	copy(disk, bootSector(waits))
	copy(disk[512:], line)
	// Something to get wrong in the middle and at the very end.
	rand.New(rand.NewSource(1)).Read(disk[3<<20 : 3<<20+100_000])
	copy(disk[Size-16:], "the disk's end!\n")
	return disk
}

// Offsets in the boot sector, which the BIOS loads to 0x7c00.
const (
	atCode  = 0x30
	atText  = 0xb9
	atWaits = 0xc3
)

// bootSector is 16-bit real-mode code. Its two packets tell the BIOS what to
// read (INT 13h, AH=42h) and write (AH=43h): the line's 63 sectors from LBA 1
// to 0000:7e00, and the count's one at LBA 100 to 0000:5000.
func bootSector(waits bool) []byte {
	s := make([]byte, 512)
	copy(s, []byte{0xeb, atCode - 2}) // jmp code
	copy(s[0x10:], []byte{0x10, 0, 63, 0, 0x00, 0x7e, 0, 0, 1})
	copy(s[0x20:], []byte{0x10, 0, 1, 0, 0x00, 0x50, 0, 0, 100})
	copy(s[atCode:], []byte{
		0xfa,       // cli
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, // mov ds, ax; mov es, ax; mov ss, ax
		0xbc, 0x00, 0x7c, // mov sp, 0x7c00
		0xbe, 0x10, 0x7c, 0xb4, 0x42, 0xcd, 0x13, // read the line
		0xbe, 0x20, 0x7c, 0xb4, 0x42, 0xcd, 0x13, // read the count
		0xfe, 0x06, 0x00, 0x50, // inc byte [0x5000]
		0xbe, 0x20, 0x7c, 0xb8, 0x00, 0x43, 0xcd, 0x13, // write the count
		0xbe, 0x00, 0x7e, 0xe8, 0x41, 0x00, // print the line
		0xbe, atText, 0x7c, 0xe8, 0x3b, 0x00, // print the text
		0xa0, 0x00, 0x50, 0x04, '0', 0xe8, 0x3e, 0x00, // send the count as a digit
		0xb0, '\n', 0xe8, 0x39, 0x00, // send a newline
		0x80, 0x3e, atWaits, 0x7c, 0x00, 0x74, 0x1f, // cmp byte [waits], 0; je off
		0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // ACPI's PM1_EN: the power button
		0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0x07, // wait: has a byte come? else jz button
		0xba, 0xf8, 0x03, 0xec, 0xe8, 0x1c, 0x00, // send it back
		0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xe8, // button: PM1_STS: was it pressed? else jz wait
		0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, // off: PM1_CNT: S5; hlt
		0xac, 0x84, 0xc0, 0x74, 0x05, 0xe8, 0x03, 0x00, 0xeb, 0xf6, 0xc3, // print: send up to a zero byte
		0x88, 0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, // send: wait for the transmitter
		0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xc3, // and give it the byte
	})
	copy(s[atText:], "\nstarts: ")
	if waits {
		s[atWaits] = 1
	}
	binary.LittleEndian.PutUint16(s[510:], 0xaa55)
	return s
}
