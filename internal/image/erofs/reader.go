package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// ErrFormat is an image that is damaged, or of a kind that is not read here.
var ErrFormat = errors.New("not a readable EROFS image")

// FS is an image that was opened for reading. Its methods may be called by
// several goroutines at once. It follows symbolic links inside the image, as a
// process would whose root is the image's.
//
// It implements [fs.ReadDirFS], [fs.StatFS] and [fs.ReadLinkFS]; its files
// implement [io.ReaderAt] and [io.Seeker], its directories [fs.ReadDirFile].
// Offsets and sizes in the image are checked before they are used. What is not
// detected is a crafted image whose directories contain themselves.
type FS struct {
	r        io.ReaderAt
	bits     uint // log2 of the block size
	blocks   int64
	meta     int64 // byte offset of node 0
	shared   int64 // byte offset of shared attribute 0
	root     uint64
	build    time.Time
	uuid     [16]byte
	hasChunk bool
}

// Stat is what [fs.FileInfo.Sys] of a file in an image gives.
type Stat struct {
	Inode        uint64 // equal for the names of one file
	Nlink        uint32
	UID, GID     uint32
	Major, Minor uint32 // of a device
}

// Open reads the superblock of the image in r, which must stay readable for
// as long as the FS is used.
func Open(r io.ReaderAt) (*FS, error) {
	var b [superSize]byte
	if _, err := r.ReadAt(b[:], superOffset); err != nil {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint32(b[0:]) != superMagic {
		return nil, fmt.Errorf("superblock: %w", ErrFormat)
	}
	incompat := le.Uint32(b[80:])
	if extra := incompat &^ incompatSupported; extra != 0 {
		return nil, fmt.Errorf("features %#x: %w", extra, ErrFormat)
	}
	f := &FS{
		r:        r,
		bits:     uint(b[12]),
		blocks:   int64(le.Uint32(b[36:])),
		root:     uint64(le.Uint16(b[14:])),
		build:    time.Unix(int64(le.Uint64(b[24:])), int64(le.Uint32(b[32:]))),
		hasChunk: incompat&incompatChunked != 0,
	}
	copy(f.uuid[:], b[48:64])
	if f.bits < 9 || f.bits > 16 {
		return nil, fmt.Errorf("block size 2^%d: %w", f.bits, ErrFormat)
	}
	if le.Uint32(b[8:])&compatChecksum != 0 {
		if err := f.verify(b[:], le.Uint32(b[4:])); err != nil {
			return nil, err
		}
	}
	f.meta = int64(le.Uint32(b[40:])) << f.bits
	f.shared = int64(le.Uint32(b[44:])) << f.bits
	return f, nil
}

// verify checks the superblock's checksum, which goes to the block's end.
func (f *FS) verify(super []byte, want uint32) error {
	n := int64(1) << f.bits
	if n > superOffset {
		n -= superOffset
	}
	b := make([]byte, max(n, superSize))
	if _, err := f.r.ReadAt(b[:n], superOffset); err != nil {
		return fmt.Errorf("reading the superblock: %w", err)
	}
	clear(b[4:8])
	if got := checksum(b[:n]); got != want {
		return fmt.Errorf("superblock checksum %08x, want %08x: %w", got, want, ErrFormat)
	}
	return nil
}

// UUID is the one in the superblock.
func (f *FS) UUID() [16]byte { return f.uuid }

// BuildTime is the one in the superblock.
func (f *FS) BuildTime() time.Time { return f.build }

// Size is the image's, in bytes.
func (f *FS) Size() int64 { return f.blocks << f.bits }

// readInode is an inode as it was read.
type readInode struct {
	nid      uint64
	layout   uint16
	raw      uint16 // st_mode
	mode     fs.FileMode
	size     int64
	union    uint32
	uid, gid uint32
	nlink    uint32
	mtime    time.Time
	xattrs   int64 // byte offset of the attributes in the image
	behind   int64 // byte offset of what follows them
}

// inode reads the inode of that number.
func (f *FS) inode(nid uint64) (*readInode, error) {
	off := int64(nid)*slotSize + f.meta
	if nid > 1<<48 || off+compactSize > f.Size() {
		return nil, fmt.Errorf("inode %d outside the image: %w", nid, ErrFormat)
	}
	var b [inodeSize]byte
	if _, err := f.r.ReadAt(b[:compactSize], off); err != nil {
		return nil, fmt.Errorf("reading inode %d: %w", nid, err)
	}
	le := binary.LittleEndian
	format := le.Uint16(b[0:])
	in := &readInode{nid: nid, layout: format >> 1 & 7, raw: le.Uint16(b[4:]), union: le.Uint32(b[16:])}
	var ok bool
	if in.mode, ok = fileMode(in.raw); !ok || format > 0xf {
		return nil, fmt.Errorf("inode %d of mode %o, format %#x: %w", nid, in.raw, format, ErrFormat)
	}
	in.xattrs = off + compactSize
	if format&1 == 0 {
		in.nlink = uint32(le.Uint16(b[6:]))
		in.size = int64(le.Uint32(b[8:]))
		in.uid, in.gid = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
		in.mtime = f.build
	} else {
		if _, err := f.r.ReadAt(b[compactSize:], off+compactSize); err != nil {
			return nil, fmt.Errorf("reading inode %d: %w", nid, err)
		}
		in.xattrs = off + inodeSize
		in.size = int64(le.Uint64(b[8:]))
		in.uid, in.gid = le.Uint32(b[24:]), le.Uint32(b[28:])
		in.mtime = time.Unix(int64(le.Uint64(b[32:])), int64(le.Uint32(b[40:])))
		in.nlink = le.Uint32(b[nlinkOffset:])
	}
	in.behind = in.xattrs
	if count := int64(le.Uint16(b[2:])); count > 0 {
		in.behind += xattrHeaderSize + 4*(count-1)
	}
	return in, f.checkInode(in)
}

// checkInode refuses what could not be read without surprises.
func (f *FS) checkInode(in *readInode) error {
	switch in.raw & modeFmt {
	case modeRegular, modeDir, modeSymlink:
	default:
		in.size = 0
		return nil
	}
	bad := in.size < 0
	switch in.layout {
	case layoutPlain, layoutInline:
		// All the data is there, so it cannot be longer than the image.
		bad = bad || in.size > f.Size()
	case layoutChunk:
		bad = bad || !f.hasChunk || in.union&^(chunkBitsMask|chunkIndexes) != 0
	default:
		bad = true
	}
	if bad {
		return fmt.Errorf("inode %d of %d bytes, layout %d: %w", in.nid, in.size, in.layout, ErrFormat)
	}
	return nil
}

// readAt reads a file's data: all of p, or up to the file's end and io.EOF.
func (f *FS) readAt(in *readInode, p []byte, pos int64) (n int, err error) {
	for n < len(p) {
		if pos >= in.size {
			return n, io.EOF
		}
		addr, run, err := f.locate(in, pos)
		if err != nil {
			return n, err
		}
		part := p[n:min(int64(len(p)), int64(n)+min(run, in.size-pos))]
		if addr < 0 {
			clear(part)
		} else if _, err := f.r.ReadAt(part, addr); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return n, fmt.Errorf("reading %d bytes of the image at %d: %w", len(part), addr, err)
		}
		n, pos = n+len(part), pos+int64(len(part))
	}
	return n, nil
}

// locate gives the byte offset in the image of a file's byte pos, and how many
// bytes follow it there. The offset is negative for a hole.
func (f *FS) locate(in *readInode, pos int64) (addr, run int64, err error) {
	size := int64(1) << f.bits
	switch in.layout {
	case layoutPlain:
		return int64(in.union)<<f.bits + pos, in.size - pos, nil
	case layoutInline:
		start := (in.size - 1) &^ (size - 1) // of the last block
		if pos < start {
			return int64(in.union)<<f.bits + pos, start - pos, nil
		}
		return in.behind + pos - start, in.size - pos, nil
	}
	bits := f.bits + uint(in.union&chunkBitsMask)
	chunk := pos >> bits
	unit := int64(4)
	if in.union&chunkIndexes != 0 {
		unit = 8
	}
	var b [8]byte
	off := roundUp(in.behind, unit) + chunk*unit
	if off >= f.Size() {
		return 0, 0, fmt.Errorf("chunk %d of inode %d: %w", chunk, in.nid, ErrFormat)
	}
	if _, err := f.r.ReadAt(b[:unit], off); err != nil {
		return 0, 0, fmt.Errorf("reading chunk %d of inode %d: %w", chunk, in.nid, err)
	}
	within := pos & (1<<bits - 1)
	run = 1<<bits - within
	block := binary.LittleEndian.Uint32(b[unit-4:]) // the last word of either kind
	if block == nullAddr {
		return -1, run, nil
	}
	return int64(block)<<f.bits + within, run, nil
}
