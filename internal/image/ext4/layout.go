package ext4

// Sizes that never vary (blockgroup.rst).
const (
	blockSize      = 4096
	blocksPerGroup = 8 * blockSize // what one block of bitmap describes
	descSize       = 64            // of a group descriptor with the 64bit feature
	descsPerBlock  = blockSize / descSize
	inodeSize      = 256
	inodesPerBlock = blockSize / inodeSize
	firstInode     = 11 // numbers below are reserved (special_inodes.rst)

	minJournal = 1024 * blockSize  // what the kernel accepts at least
	maxJournal = 16384 * blockSize // fits into group 0, in one extent
	minTail    = 50                // free blocks that make a last group worth having, as mke2fs has it
)

// layout is where everything lies. Each group holds its own metadata at its
// front: [superblock] [descriptor block] block bitmap, inode bitmap, inode
// table; group 0 then has one block for each directory, and the journal.
//
// Keeping a group's metadata in the group, although flex_bg would let it be
// gathered elsewhere, means that the kernel can work out the block bitmap of
// an untouched group: nothing at all is written for it but its descriptor.
//
// Descriptors are stored in the meta_bg way: a block of 64 descriptors lies
// in the first of the 64 groups that it describes, with copies in the second
// and the last. So three copies exist however large the file system is, and
// growing needs no space reserved for them.
type layout struct {
	blocks         uint64
	groups         uint32
	inodesPerGroup uint32
	dirBlocks      uint64 // the root's and those in it
	journalBlocks  uint64
}

func newLayout(o Options) layout {
	l := layout{
		blocks:         uint64(o.Size) / blockSize,
		inodesPerGroup: 8192, // one for each 16 KiB, as mke2fs has it
		dirBlocks:      1 + uint64(len(o.Dirs)),
		journalBlocks:  uint64(journalSize(o)) / blockSize,
	}
	if o.Size < 64<<20 {
		l.inodesPerGroup = 2048
	}
	l.groups = uint32((l.blocks + blocksPerGroup - 1) / blocksPerGroup)
	last := l.groups - 1
	if last > 0 && l.groupBlocks(last) < l.metaBlocks(last)+minTail {
		l.groups--
		l.blocks = uint64(l.groups) * blocksPerGroup
	}
	return l
}

func journalSize(o Options) int64 {
	switch {
	case o.JournalSize != 0:
		return o.JournalSize
	case o.Size < 64<<20:
		return minJournal
	case o.Size < 1<<30:
		return 16 << 20
	case o.Size < 8<<30:
		return 32 << 20
	default:
		return maxJournal
	}
}

// hasSuper says whether group g starts with a superblock: 0, 1 and the powers
// of 3, 5 and 7 (sparse_super, super.rst).
func hasSuper(g uint32) bool {
	if g <= 1 {
		return true
	}
	for _, base := range []uint32{3, 5, 7} {
		n := g
		for n%base == 0 {
			n /= base
		}
		if n == 1 {
			return true
		}
	}
	return false
}

// hasDescriptors says whether group g holds a copy of the descriptor block of
// its 64 groups (meta_bg, blockgroup.rst).
func hasDescriptors(g uint32) bool {
	n := g % descsPerBlock
	return n == 0 || n == 1 || n == descsPerBlock-1
}

func firstBlock(g uint32) uint64 { return uint64(g) * blocksPerGroup }

func descriptorBlock(g uint32) uint64 {
	if hasSuper(g) {
		return firstBlock(g) + 1
	}
	return firstBlock(g)
}

func blockBitmap(g uint32) uint64 {
	if hasDescriptors(g) {
		return descriptorBlock(g) + 1
	}
	return descriptorBlock(g)
}

func inodeBitmap(g uint32) uint64 { return blockBitmap(g) + 1 }
func inodeTable(g uint32) uint64  { return blockBitmap(g) + 2 }

func (l layout) inodeTableBlocks() uint64 { return uint64(l.inodesPerGroup) / inodesPerBlock }

// dirBlock is the block of directory i: 0 is the root.
func (l layout) dirBlock(i int) uint64 { return inodeTable(0) + l.inodeTableBlocks() + uint64(i) }

func (l layout) journalBlock() uint64 { return l.dirBlock(int(l.dirBlocks)) }

// groupBlocks is how many blocks group g spans: only the last may be short.
func (l layout) groupBlocks(g uint32) uint64 {
	return min(blocksPerGroup, l.blocks-firstBlock(g))
}

// metaBlocks is how many blocks at the front of group g are metadata.
func (l layout) metaBlocks(g uint32) uint64 {
	return inodeTable(g) + l.inodeTableBlocks() - firstBlock(g)
}

// usedBlocks is how many blocks at the front of group g are in use.
func (l layout) usedBlocks(g uint32) uint64 {
	if g == 0 {
		return l.metaBlocks(0) + l.dirBlocks + l.journalBlocks
	}
	return l.metaBlocks(g)
}

// usedInodes is how many inodes at the front of group g are in use.
func (l layout) usedInodes(g uint32) uint32 {
	if g == 0 {
		return firstInode - 1 + uint32(l.dirBlocks) - 1
	}
	return 0
}

// totals sums up the groups: blocks that are free, and blocks that are
// neither free nor available to files (the superblock's overhead).
func (l layout) totals() (free, overhead uint64) {
	for g := range l.groups {
		free += l.groupBlocks(g) - l.usedBlocks(g)
		overhead += l.metaBlocks(g)
	}
	return free, overhead + l.journalBlocks
}
