package ext4

// Inode numbers (special_inodes.rst).
const (
	rootInode    = 2
	journalInode = 8
)

const (
	modeDir      = 0o040755
	modeJournal  = 0o100600
	flagExtents  = 0x80000 // i_block holds an extent tree
	extraSize    = 32      // bytes of an inode's fields past the first 128
	extentMagic  = 0xf30a
	typeDir      = 2    // a directory entry's file type
	typeTail     = 0xde // the checksum that poses as an entry
	dirTailSize  = 12
	inodeBlocks  = 0x28 // offset of i_block
	inodeBlocksN = 60   // and its length
)

// inode is what differs between the inodes of an empty file system; each has
// one extent.
type inode struct {
	number       uint32
	mode, links  uint16
	start, count uint64 // blocks
}

// rootAndDirs lists the directories' inodes, the root's first.
func (fs *image) rootAndDirs() []inode {
	list := []inode{{rootInode, modeDir, uint16(2 + len(fs.dirs)), fs.dirBlock(0), 1}}
	for i := range fs.dirs {
		list = append(list, inode{firstInode + uint32(i), modeDir, 2, fs.dirBlock(1 + i), 1})
	}
	return list
}

func (fs *image) journalFile() inode {
	return inode{journalInode, modeJournal, 1, fs.journalBlock(), fs.journalBlocks}
}

// writeFiles writes the used part of the inode table, and the directories.
func (fs *image) writeFiles() error {
	dirs := fs.rootAndDirs()
	used := (fs.usedInodes(0) + inodesPerBlock - 1) / inodesPerBlock
	table := make([]byte, used*blockSize)
	for _, i := range append(dirs[:len(dirs):len(dirs)], fs.journalFile()) {
		fs.encodeInode(table[(i.number-1)*inodeSize:][:inodeSize], i)
	}
	if err := fs.writeBlock(inodeTable(0), table); err != nil {
		return err
	}
	for n, dir := range dirs {
		var entries []dirent
		if n == 0 {
			for j, name := range fs.dirs {
				entries = append(entries, dirent{dirs[1+j].number, name})
			}
		}
		if err := fs.writeBlock(dir.start, fs.directory(dir.number, entries)); err != nil {
			return err
		}
	}
	return nil
}

// encodeInode fills r with i (inodes.rst). All times are zero: 1970.
func (fs *image) encodeInode(r record, i inode) {
	r.u16(0x00, i.mode)
	r.split64(0x04, 0x6c, i.count*blockSize)
	r.u16(0x1a, i.links)
	r.u32(0x1c, uint32(i.count*blockSize/512))
	r.u32(0x20, flagExtents)
	copy(r[inodeBlocks:], extentRoot(i.start, i.count))
	r.u16(0x80, extraSize)
	r.split32(0x7c, 0x82, checksum(fs.inodeSeed(i.number), r))
}

// inodeSeed is where the checksum of an inode, or of a directory's block,
// starts: the number, then the generation, which is zero here.
func (fs *image) inodeSeed(number uint32) uint32 {
	return checksumNumber(checksumNumber(fs.seed, number), 0)
}

// extentRoot is the content of i_block for a file that is one run of blocks
// (ifork.rst): a header, and room for four leaves of which one is used.
func extentRoot(start, count uint64) []byte {
	r := make(record, inodeBlocksN)
	r.u16(0, extentMagic)
	r.u16(2, 1)              // entries
	r.u16(4, 4)              // room for entries
	r.u16(16, uint16(count)) // of blocks, from the file's first
	r.u16(18, uint16(start>>32))
	r.u32(20, uint32(start))
	return r
}

// dirent is a directory's entry in its directory.
type dirent struct {
	inode uint32
	name  string
}

// direntSize is the space that an entry takes at least.
func direntSize(nameLen int) int { return (8 + nameLen + 3) &^ 3 }

// directory is the one block of directory number, whose parent is the root:
// linear entries, the last of them reaching to the checksum (directory.rst).
func (fs *image) directory(number uint32, entries []dirent) []byte {
	entries = append([]dirent{{number, "."}, {rootInode, ".."}}, entries...)
	b := make(record, blockSize)
	end := blockSize - dirTailSize
	off := 0
	for i, e := range entries {
		size := direntSize(len(e.name))
		if i == len(entries)-1 {
			size = end - off
		}
		b.u32(off, e.inode)
		b.u16(off+4, uint16(size))
		b[off+6] = byte(len(e.name))
		b[off+7] = typeDir
		copy(b[off+8:], e.name)
		off += size
	}
	b.u16(end+4, dirTailSize)
	b[end+7] = typeTail
	b.u32(end+8, checksum(fs.inodeSeed(number), b[:end]))
	return b
}
