//go:build linux

package main

import (
	"encoding/binary"
	"errors"
)

// blockCounts reads from an ext4 superblock how many blocks the file system
// has, and how many a device of size bytes has room for. Kernel
// Documentation/filesystems/ext4/super.rst: s_blocks_count_lo at 0x4,
// s_log_block_size at 0x18, s_magic at 0x38, s_feature_incompat at 0x60,
// s_blocks_count_hi at 0x150.
func blockCounts(super []byte, size uint64) (have, want uint64, err error) {
	if len(super) < 1024 || binary.LittleEndian.Uint16(super[0x38:]) != 0xef53 {
		return 0, 0, errors.New("not an ext4 file system")
	}
	shift := binary.LittleEndian.Uint32(super[0x18:])
	if shift > 6 {
		return 0, 0, errors.New("the ext4 block size is not valid")
	}
	have = uint64(binary.LittleEndian.Uint32(super[0x4:]))
	const incompat64bit = 0x80
	if binary.LittleEndian.Uint32(super[0x60:])&incompat64bit != 0 {
		have |= uint64(binary.LittleEndian.Uint32(super[0x150:])) << 32
	}
	return have, size >> (10 + shift), nil
}
