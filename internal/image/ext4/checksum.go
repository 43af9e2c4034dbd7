package ext4

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum continues crc over p with CRC-32C as ext4 uses it (checksums.rst):
// the bare register, without the inversions before and after that hash/crc32
// makes.
func checksum(crc uint32, p []byte) uint32 {
	return ^crc32.Update(^crc, castagnoli, p)
}

// checksumNumber continues crc over n as four little-endian bytes.
func checksumNumber(crc, n uint32) uint32 {
	b := make(record, 4)
	b.u32(0, n)
	return checksum(crc, b)
}
