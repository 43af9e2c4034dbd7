//go:build linux

package main

import "encoding/binary"

// tinyELF is a 64-bit ELF program that names an interpreter and does nothing.
func tinyELF(interpreter string) []byte {
	const header, entry = 64, 56
	b := make([]byte, header+entry)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[0x10:], 2)  // ET_EXEC
	le.PutUint16(b[0x12:], 62) // EM_X86_64
	le.PutUint32(b[0x14:], 1)
	le.PutUint64(b[0x20:], header)
	le.PutUint16(b[0x34:], header)
	le.PutUint16(b[0x36:], entry)
	le.PutUint16(b[0x38:], 1)
	ph := b[header:]
	le.PutUint32(ph, 3) // PT_INTERP
	le.PutUint64(ph[8:], header+entry)
	le.PutUint64(ph[0x20:], uint64(len(interpreter)+1))
	return append(b, interpreter+"\x00"...)
}

// foreignELF is a program for another machine.
func foreignELF() []byte {
	b := tinyELF("/lib/ld-linux-aarch64.so.1")
	binary.LittleEndian.PutUint16(b[0x12:], 183)
	return b
}
