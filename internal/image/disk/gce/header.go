package gce

import (
	"encoding/binary"
	"fmt"
)

// Entries of a sparse file's map in its header, and in each of the sectors that
// continue it.
const (
	inHeader = 4
	inSector = 21
)

// header is a sparse file's (GNU tar, src/tar.h: oldgnu_header, sparse_header):
// a map of what is in the archive of it, which continues in sectors of its own.
func header(size int64, list []extent) []byte {
	if len(list) == 0 || list[len(list)-1].end() < size {
		list = append(list[:len(list):len(list)], extent{size, 0}) // for the hole at the end
	}
	var stored int64
	for _, e := range list {
		stored += e.length
	}
	b := make([]byte, sector)
	copy(b, "disk.raw")
	number(b[100:108], 0o644)
	number(b[108:116], 0) // user and group
	number(b[116:124], 0)
	number(b[124:136], stored)
	number(b[136:148], 0) // time
	copy(b[148:156], "        ")
	b[156] = 'S'
	copy(b[257:], "ustar  \x00root")
	copy(b[297:], "root")
	list = entries(b[386:482], list, inHeader)
	b[482] = more(list)
	number(b[483:495], size)
	var sum int64
	for _, v := range b {
		sum += int64(v)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	for len(list) > 0 {
		next := make([]byte, sector)
		list = entries(next, list, inSector)
		next[inSector*24] = more(list)
		b = append(b, next...)
	}
	return b
}

// entries puts up to n of a map's entries, and returns the rest.
func entries(b []byte, list []extent, n int) []extent {
	n = min(n, len(list))
	for i, e := range list[:n] {
		number(b[24*i:24*i+12], e.at)
		number(b[24*i+12:24*i+24], e.length)
	}
	return list[n:]
}

func more(list []extent) byte {
	if len(list) > 0 {
		return 1
	}
	return 0
}

// number puts a number in octal digits, or in GNU's binary form where they are
// too few.
func number(b []byte, n int64) {
	if digits := fmt.Sprintf("%0*o", len(b)-1, n); len(digits) < len(b) {
		copy(b, digits)
		return
	}
	binary.BigEndian.PutUint64(b[len(b)-8:], uint64(n))
	b[0] = 0x80
}
