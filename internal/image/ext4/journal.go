package ext4

import "encoding/binary"

// writeJournal writes the head of an empty journal: its superblock, version 2
// (journal.rst), big-endian. Nothing after it is read before it was written,
// for it starts at sequence 1 with no transaction to replay; the kernel adds
// the features it wants (64bit, checksums) at the first mount.
func (fs *image) writeJournal() error {
	b := make([]byte, blockSize)
	put := func(off int, v uint32) { binary.BigEndian.PutUint32(b[off:], v) }
	put(0x00, 0xc03b3998) // magic
	put(0x04, 4)          // superblock, version 2
	put(0x0c, blockSize)
	put(0x10, uint32(fs.journalBlocks))
	put(0x14, 1) // first block of the log
	put(0x18, 1) // first sequence number
	copy(b[0x30:0x40], fs.uuid[:])
	put(0x40, 1) // one file system uses it
	return fs.writeBlock(fs.journalBlock(), b)
}
