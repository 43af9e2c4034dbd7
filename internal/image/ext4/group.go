package ext4

// Group descriptor flags (group_descr.rst).
const (
	inodeUninit = 1 // the inode bitmap is not on disk: all free
	blockUninit = 2 // the block bitmap is not on disk: only the metadata is in use
	tableZeroed = 4 // the inode table reads as zeros
)

// writeBitmaps writes the bitmaps that are not left to the kernel.
func (fs *image) writeBitmaps() error {
	for _, g := range fs.initialised() {
		if err := fs.writeBlock(blockBitmap(g), fs.blockBits(g)); err != nil {
			return err
		}
	}
	return fs.writeBlock(inodeBitmap(0), fs.inodeBits(0))
}

// initialised lists the groups with a block bitmap on disk: the first, which
// has files, and the last, which may be short; e2fsprogs expects both.
func (l layout) initialised() []uint32 {
	if l.groups == 1 {
		return []uint32{0}
	}
	return []uint32{0, l.groups - 1}
}

// blockBits is the block bitmap of group g, blocks past the end marked as
// used (bitmaps.rst).
func (l layout) blockBits(g uint32) []byte {
	b := make([]byte, blockSize)
	setBits(b, 0, l.usedBlocks(g))
	setBits(b, l.groupBlocks(g), blocksPerGroup)
	return b
}

func (l layout) inodeBits(g uint32) []byte {
	b := make([]byte, blockSize)
	setBits(b, 0, uint64(l.usedInodes(g)))
	setBits(b, uint64(l.inodesPerGroup), 8*blockSize)
	return b
}

func setBits(b []byte, from, to uint64) {
	for i := from; i < to; i++ {
		b[i/8] |= 1 << (i % 8)
	}
}

// writeDescriptors writes the descriptor block of each 64 groups, and its
// copies.
func (fs *image) writeDescriptors() error {
	for first := uint32(0); first < fs.groups; first += descsPerBlock {
		block := make([]byte, blockSize)
		end := min(first+descsPerBlock, fs.groups)
		for g := first; g < end; g++ {
			fs.descriptor(block[(g-first)*descSize:][:descSize], g)
		}
		for _, g := range []uint32{first, first + 1, first + descsPerBlock - 1} {
			if g >= end {
				break
			}
			if err := fs.writeBlock(descriptorBlock(g), block); err != nil {
				return err
			}
		}
	}
	return nil
}

// descriptor fills d with the descriptor of group g (group_descr.rst). A
// checksum of a bitmap is zero while there is no bitmap.
func (fs *image) descriptor(d record, g uint32) {
	flags := uint16(inodeUninit | blockUninit | tableZeroed)
	var blocksSum, inodesSum uint32
	if g == 0 || g == fs.groups-1 {
		flags &^= blockUninit
		blocksSum = checksum(fs.seed, fs.blockBits(g))
	}
	dirs := uint64(0)
	if g == 0 {
		flags &^= inodeUninit
		inodesSum = checksum(fs.seed, fs.inodeBits(g)[:fs.inodesPerGroup/8])
		dirs = fs.dirBlocks
	}
	freeInodes := fs.inodesPerGroup - fs.usedInodes(g)

	d.split64(0x00, 0x20, blockBitmap(g))
	d.split64(0x04, 0x24, inodeBitmap(g))
	d.split64(0x08, 0x28, inodeTable(g))
	d.split32(0x0c, 0x2c, uint32(fs.groupBlocks(g)-fs.usedBlocks(g)))
	d.split32(0x0e, 0x2e, freeInodes)
	d.split32(0x10, 0x30, uint32(dirs))
	d.u16(0x12, flags)
	d.split32(0x18, 0x38, blocksSum)
	d.split32(0x1a, 0x3a, inodesSum)
	d.split32(0x1c, 0x32, freeInodes) // never used, so not scanned
	d.u16(0x1e, uint16(checksum(checksumNumber(fs.seed, g), d)))
}
