package disktest

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// UEFI is a raw disk without any code for a BIOS: its EFI system partition
// has a program at the removable media path, which writes the text to the
// first serial port and powers the machine off.
func UEFI(t testing.TB, text string) []byte {
	t.Helper()
	const first = 2048 // sector of the partition
	dir := t.TempDir()
	program, part := filepath.Join(dir, "bootx64.efi"), filepath.Join(dir, "esp")
	if err := os.WriteFile(program, efiProgram(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mformat", "-C", "-i", part, "-T", "8192", "::"},
		{"mmd", "-i", part, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-i", part, program, "::/EFI/BOOT/BOOTX64.EFI"},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Fatalf("%s is missing: apt-get install mtools", args[0])
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	content, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, Size)
	entry := disk[446:]
	entry[4] = 0xef
	binary.LittleEndian.PutUint32(entry[8:], first)
	binary.LittleEndian.PutUint32(entry[12:], Size/512-first)
	binary.LittleEndian.PutUint16(disk[510:], 0xaa55)
	copy(disk[first*512:], content)
	return disk
}

// efiProgram is a PE32+ image of one section (Microsoft's "PE Format").
func efiProgram(text string) []byte {
	code := []byte{
		0x48, 0x8d, 0x35, 0x22, 0, 0, 0, // lea rsi, [text]
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x12, // jz off
		0x88, 0xc3, // mov bl, al
		0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd
		0xec,       // wait: in al, dx
		0xa8, 0x20, // test al, 0x20
		0x74, 0xfb, // jz wait
		0xb2, 0xf8, // mov dl, 0xf8
		0x88, 0xd8, // mov al, bl
		0xee,       // out dx, al
		0xeb, 0xe9, // jmp next
		0x66, 0xba, 0x04, 0x06, // off: mov dx, 0x604
		0x66, 0xb8, 0x00, 0x20, // mov ax, 0x2000
		0x66, 0xef, // out dx, ax
		0xf4, // hlt
	}
	code = append(append(code, text...), 0)

	const header, page = 0x200, 0x1000
	b := make([]byte, header+0x200)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	coff := b[0x44:]
	le.PutUint16(coff[0:], 0x8664)  // machine
	le.PutUint16(coff[2:], 1)       // sections
	le.PutUint16(coff[16:], 0xf0)   // size of the optional header
	le.PutUint16(coff[18:], 0x0022) // executable, of large addresses
	opt := coff[20:]
	le.PutUint16(opt[0:], 0x20b)   // PE32+
	le.PutUint32(opt[4:], 0x200)   // size of the code
	le.PutUint32(opt[16:], page)   // entry point
	le.PutUint32(opt[20:], page)   // base of the code
	le.PutUint32(opt[32:], page)   // alignment of sections
	le.PutUint32(opt[36:], 0x200)  // and in the file
	le.PutUint32(opt[56:], 2*page) // size of the image
	le.PutUint32(opt[60:], header) // and of the headers
	le.PutUint16(opt[68:], 10)     // subsystem: EFI application
	le.PutUint32(opt[108:], 16)    // data directories
	section := opt[0xf0:]
	copy(section, ".text")
	le.PutUint32(section[8:], uint32(len(code)))
	le.PutUint32(section[12:], page)
	le.PutUint32(section[16:], 0x200)
	le.PutUint32(section[20:], header)
	le.PutUint32(section[36:], 0xe0000020) // code, to execute, read and write
	copy(b[header:], code)
	return b
}
