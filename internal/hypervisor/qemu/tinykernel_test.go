package qemu

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// How a tiny kernel ends: it halts for ever, or resets by a triple fault.
var (
	halts  = []byte{0xf4, 0xeb, 0xfd}                               // hlt; jmp back to it
	resets = []byte{0x0f, 0x01, 0x1d, 0x00, 0x00, 0x10, 0x00, 0xcc} // lidt of 0x100000, which is nonsense; int3
)

// tinyKernel is a guest of a few bytes, which says something on the serial
// port and ends: an ELF file with a PVH entry (Xen's
// include/public/arch-x86/hvm/start_info.h), in 32-bit protected mode.
func tinyKernel(t testing.TB, says string, ends []byte) string {
	t.Helper()
	const base, header = 0x100000, 0x100
	// For each byte: wait until the transmitter is empty, then send it.
	code := []byte{
		0xbe, 0, 0, 0, 0, // mov esi, text
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x14, // jz end
		0x88, 0xc4, // mov ah, al
		0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd
		0xec,       // wait: in al, dx
		0xa8, 0x20, // test al, 0x20
		0x74, 0xfb, // jz wait
		0x88, 0xe0, // mov al, ah
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xee,       // out dx, al
		0xeb, 0xe7, // jmp next
	}
	code = append(code, ends...)
	entry := uint32(base + 8) // behind eight zero bytes, which no IDT is made of
	binary.LittleEndian.PutUint32(code[1:], entry+uint32(len(code)))
	load := append(append(make([]byte, 8), code...), append([]byte(says), 0)...)
	note := binary.LittleEndian.AppendUint32(nil, 4)
	note = binary.LittleEndian.AppendUint32(note, 8)
	note = binary.LittleEndian.AppendUint32(note, 18) // XEN_ELFNOTE_PHYS32_ENTRY
	note = binary.LittleEndian.AppendUint64(append(note, "Xen\x00"...), uint64(entry))

	var file bytes.Buffer
	put := func(data any) {
		if err := binary.Write(&file, binary.LittleEndian, data); err != nil {
			t.Fatal(err)
		}
	}
	head := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: uint64(entry),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2, Shentsize: 64,
	}
	copy(head.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	put(head)
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 7, Off: header + 32, Vaddr: base, Paddr: base,
		Filesz: uint64(len(load)), Memsz: uint64(len(load)), Align: 1})
	put(elf.Prog64{Type: uint32(elf.PT_NOTE), Flags: 4, Off: header, Vaddr: 0, Paddr: 0,
		Filesz: uint64(len(note)), Memsz: uint64(len(note)), Align: 4})
	file.Write(make([]byte, header-file.Len()))
	file.Write(note)
	file.Write(make([]byte, header+32-file.Len()))
	file.Write(load)
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
