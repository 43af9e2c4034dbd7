package ext4

import "crypto/sha256"

// Features (super.rst). There is no resize_inode: with meta_bg growing needs
// no reserved descriptor blocks.
const (
	hasJournal = 0x0004
	extAttr    = 0x0008
	dirIndex   = 0x0020

	filetype = 0x0002
	metaBG   = 0x0010
	extents  = 0x0040
	bits64   = 0x0080
	flexBG   = 0x0200

	sparseSuper  = 0x0001
	largeFile    = 0x0002
	hugeFile     = 0x0008
	dirNlink     = 0x0020
	extraIsize   = 0x0040
	metadataCsum = 0x0400
)

const (
	superSize   = 1024
	superOffset = 1024 // of the first one; copies start their group
	superMagic  = 0xef53
)

// writeSuperblocks writes the superblock and its copies. The first comes last,
// so that a file system that was cut short while written has none.
func (fs *image) writeSuperblocks() error {
	sb := fs.superblock()
	for g := fs.groups; g > 0; g-- {
		if g := g - 1; hasSuper(g) {
			off := int64(firstBlock(g)) * blockSize
			if g == 0 {
				off = superOffset
			}
			sb.u16(0x5a, uint16(g)) // as mke2fs: the low bits of larger numbers
			sb.u32(0x3fc, checksum(^uint32(0), sb[:0x3fc]))
			if _, err := fs.w.WriteAt(sb, off); err != nil {
				return err
			}
		}
	}
	return nil
}

// superblock is the superblock but for its group and checksum (super.rst).
// Fields not set are zero, which is right for them.
func (fs *image) superblock() record {
	free, overhead := fs.totals()
	inodes := fs.inodesPerGroup * fs.groups
	sb := make(record, superSize)
	sb.u32(0x00, inodes)
	sb.split64(0x04, 0x150, fs.blocks)
	sb.split64(0x0c, 0x158, free)
	sb.u32(0x10, inodes-fs.usedInodes(0))
	sb.u32(0x18, 2) // block size: 1024 << 2
	sb.u32(0x1c, 2) // cluster size: the same
	sb.u32(0x20, blocksPerGroup)
	sb.u32(0x24, blocksPerGroup)
	sb.u32(0x28, fs.inodesPerGroup)
	sb.u16(0x36, 0xffff) // no check after so many mounts
	sb.u16(0x38, superMagic)
	sb.u16(0x3a, 1) // cleanly unmounted
	sb.u16(0x3c, 2) // on errors: become read-only
	sb.u32(0x4c, 1) // revision with the fields below
	sb.u32(0x54, firstInode)
	sb.u16(0x58, inodeSize)
	sb.u32(0x5c, hasJournal|extAttr|dirIndex)
	sb.u32(0x60, filetype|metaBG|extents|bits64|flexBG)
	sb.u32(0x64, sparseSuper|largeFile|hugeFile|dirNlink|extraIsize|metadataCsum)
	copy(sb[0x68:0x78], fs.uuid[:])
	copy(sb[0x78:0x88], fs.label)
	sb.u32(0xe0, journalInode)
	seed := sha256.Sum256(append([]byte("directory hash seed "), fs.uuid[:]...))
	copy(sb[0xec:0xfc], seed[:])
	sb[0xfc] = 1 // directory hash: half MD4
	sb[0xfd] = 1 // the journal's i_block and size are backed up below
	sb.u16(0xfe, descSize)
	sb.u32(0x100, 0x0004|0x0008) // mount with user_xattr, acl
	fs.backUpJournal(sb[0x10c:0x150])
	sb.u16(0x15c, extraSize)
	sb.u16(0x15e, extraSize)
	sb.u32(0x160, 1) // directory hashes take characters as signed
	sb[0x174] = 4    // 16 groups are one flexible group when inodes are placed
	sb[0x175] = 1    // checksums are CRC-32C
	sb.u32(0x248, uint32(overhead))
	return sb
}

// backUpJournal fills s_jnl_blocks: the journal inode's i_block, then the
// high and low half of its size.
func (fs *image) backUpJournal(r record) {
	j := fs.journalFile()
	copy(r, extentRoot(j.start, j.count))
	r.split64(inodeBlocksN+4, inodeBlocksN, j.count*blockSize)
}
