package erofs

import (
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"time"
)

// Sizes and magic numbers of fs/erofs/erofs_fs.h.
const (
	blockBits = 12
	blockSize = 1 << blockBits

	superMagic  = 0xE0F5E1E2
	superOffset = 1024
	superSize   = 128

	slotSize    = 32 // a nid counts these from the start of the metadata area
	inodeSize   = 64 // erofs_inode_extended
	compactSize = 32 // erofs_inode_compact
	direntSize  = 12 // erofs_dirent

	rootNID = (superOffset + superSize) / slotSize

	maxNameLen   = 255
	maxTargetLen = 4095 // PATH_MAX less its NUL

	nullAddr = 1<<32 - 1 // a chunk that is a hole
)

// Feature bits of the superblock.
const (
	compatChecksum    = 0x1
	compatMtime       = 0x2
	incompatChunked   = 0x4
	incompatSupported = incompatChunked
)

// Data layouts of an inode, in bits 1 to 3 of i_format.
const (
	layoutPlain  = 0
	layoutInline = 2
	layoutChunk  = 4
)

// Bits of a chunk-based inode's format word.
const (
	chunkBitsMask = 0x1f
	chunkIndexes  = 0x20
)

// File types of st_mode.
const (
	modeFmt     = 0o170000
	modeSocket  = 0o140000
	modeSymlink = 0o120000
	modeRegular = 0o100000
	modeBlock   = 0o060000
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeFIFO    = 0o010000

	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
)

// castagnoli is read-only after initialisation.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// superblock is what varies in erofs_super_block.
type superblock struct {
	incompat  uint32
	inodes    uint64
	blocks    uint32
	buildTime time.Time
	uuid      [16]byte
}

// encode writes the superblock into block0 and the checksum over all of
// block0 behind byte 1024, which must already hold the root's inode.
func (s *superblock) encode(block0 []byte) {
	le := binary.LittleEndian
	b := block0[superOffset:]
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[4:], 0)
	le.PutUint32(b[8:], compatChecksum|compatMtime)
	b[12] = blockBits
	le.PutUint16(b[14:], rootNID)
	le.PutUint64(b[16:], s.inodes)
	sec, nsec := epoch(s.buildTime)
	le.PutUint64(b[24:], uint64(sec))
	le.PutUint32(b[32:], nsec)
	le.PutUint32(b[36:], s.blocks)
	copy(b[48:64], s.uuid[:])
	le.PutUint32(b[80:], s.incompat)
	le.PutUint32(b[4:], checksum(b))
}

// checksum is crc32c as the kernel counts it: seeded with all ones and not
// inverted at the end. The checksum field must be zero.
func checksum(b []byte) uint32 {
	return ^crc32.Update(0, castagnoli, b)
}

// diskInode is erofs_inode_extended.
type diskInode struct {
	layout     uint16
	xattrCount uint16
	mode       uint16
	size       uint64
	union      uint32 // block address, device number or chunk format
	ino        uint32
	uid, gid   uint32
	sec        int64
	nsec       uint32
	nlink      uint32
}

// Where the link count lies in an extended inode.
const nlinkOffset = 44

func (d *diskInode) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], 1|d.layout<<1)
	le.PutUint16(b[2:], d.xattrCount)
	le.PutUint16(b[4:], d.mode)
	le.PutUint64(b[8:], d.size)
	le.PutUint32(b[16:], d.union)
	le.PutUint32(b[20:], d.ino)
	le.PutUint32(b[24:], d.uid)
	le.PutUint32(b[28:], d.gid)
	le.PutUint64(b[32:], uint64(d.sec))
	le.PutUint32(b[40:], d.nsec)
	le.PutUint32(b[nlinkOffset:], d.nlink)
}

// epoch gives t as seconds and nanoseconds since 1970; the zero Time is 1970.
func epoch(t time.Time) (sec int64, nsec uint32) {
	if t.IsZero() {
		return 0, 0
	}
	return t.Unix(), uint32(t.Nanosecond())
}

// unixMode translates m into st_mode; ok is false for a type EROFS lacks.
func unixMode(m fs.FileMode) (mode uint16, ok bool) {
	mode = uint16(m.Perm())
	switch m.Type() {
	case 0:
		mode |= modeRegular
	case fs.ModeDir:
		mode |= modeDir
	case fs.ModeSymlink:
		mode |= modeSymlink
	case fs.ModeNamedPipe:
		mode |= modeFIFO
	case fs.ModeSocket:
		mode |= modeSocket
	case fs.ModeDevice:
		mode |= modeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		mode |= modeChar
	default:
		return 0, false
	}
	if m&fs.ModeSetuid != 0 {
		mode |= modeSetuid
	}
	if m&fs.ModeSetgid != 0 {
		mode |= modeSetgid
	}
	if m&fs.ModeSticky != 0 {
		mode |= modeSticky
	}
	return mode, true
}

// fileMode is the reverse of unixMode; ok is false for no known type.
func fileMode(mode uint16) (m fs.FileMode, ok bool) {
	m = fs.FileMode(mode & 0o777)
	switch mode & modeFmt {
	case modeRegular:
	case modeDir:
		m |= fs.ModeDir
	case modeSymlink:
		m |= fs.ModeSymlink
	case modeFIFO:
		m |= fs.ModeNamedPipe
	case modeSocket:
		m |= fs.ModeSocket
	case modeBlock:
		m |= fs.ModeDevice
	case modeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	default:
		return 0, false
	}
	if mode&modeSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if mode&modeSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if mode&modeSticky != 0 {
		m |= fs.ModeSticky
	}
	return m, true
}

// direntType is the file type that a directory stores beside a name.
func direntType(mode uint16) byte {
	switch mode & modeFmt {
	case modeRegular:
		return 1
	case modeDir:
		return 2
	case modeChar:
		return 3
	case modeBlock:
		return 4
	case modeFIFO:
		return 5
	case modeSocket:
		return 6
	case modeSymlink:
		return 7
	}
	return 0
}

// Largest device numbers that fit the kernel's 32-bit encoding.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// encodeDev is new_encode_dev of include/linux/kdev_t.h.
func encodeDev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// decodeDev is new_decode_dev of include/linux/kdev_t.h.
func decodeDev(dev uint32) (major, minor uint32) {
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}

// blocksFor is the number of blocks that n bytes touch.
func blocksFor(n int64) int64 {
	return (n + blockSize - 1) >> blockBits
}

// roundUp gives the next multiple of align, a power of two.
func roundUp[T int | int64](n, align T) T {
	return (n + align - 1) &^ (align - 1)
}
