// Package ext4 makes empty ext4 file systems without root, on any host.
//
// It writes the few blocks that an empty file system really has and leaves
// the rest as holes: block groups are marked uninitialised and their inode
// tables zeroed, so that neither this package nor the kernel's lazy
// initialisation has anything to write. The result has a journal, checksums
// on all metadata, and can be grown while mounted (EXT4_IOC_RESIZE_FS).
// Reading, checking and filling file systems is left to others.
//
// The format is that of the kernel's Documentation/filesystems/ext4; comments
// name its pages. Everything is little-endian but the journal (journal.rst).
package ext4

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Limits of Options.Size, in bytes.
const (
	MinSize = 16 << 20
	MaxSize = 16 << 40
)

const (
	maxLabel = 16  // bytes in the superblock's s_volume_name
	maxName  = 255 // bytes in a directory entry's name
	maxDirs  = 64  // Options.Dirs; their inodes stay in five table blocks
)

// Options says what file system to make. The same Options make the same
// bytes.
type Options struct {
	// Size of the device or file in bytes: a multiple of 4096 between
	// MinSize and MaxSize. As with mke2fs, a tail too short to hold a block
	// group's own metadata (about 2 MiB) stays unused.
	Size int64
	// Label is the volume's name, at most 16 bytes; empty for none.
	Label string
	// UUID of the file system; all zeros derives one from the other options.
	UUID [16]byte
	// Dirs names directories to make in the root, owned by root with mode
	// 0755, as is the root itself. At most 64 that fit into one block.
	Dirs []string
	// JournalSize in bytes, a multiple of 4096 between 4 MiB and 64 MiB and at
	// most half of Size; 0 chooses by Size. The journal is the one thing that
	// does not grow with the file system.
	JournalSize int64
}

// Format writes an empty ext4 file system of o.Size bytes to w, which must
// read as zeros wherever it is not written: a new or truncated sparse file.
// Its length is left to the caller; set it to o.Size. Only the blocks with
// content are written: about 32 KiB, and 2 KiB more for each GiB of Size.
func Format(w io.WriterAt, o Options) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("making an ext4 file system: %w", err)
	}
	fs := image{layout: newLayout(o), w: w, label: o.Label, uuid: o.uuid(), dirs: o.Dirs}
	fs.seed = checksum(^uint32(0), fs.uuid[:])
	for _, step := range []struct {
		what  string
		write func() error
	}{
		{"files", fs.writeFiles},
		{"journal", fs.writeJournal},
		{"bitmaps", fs.writeBitmaps},
		{"group descriptors", fs.writeDescriptors},
		{"superblocks", fs.writeSuperblocks},
	} {
		if err := step.write(); err != nil {
			return fmt.Errorf("making an ext4 file system: writing %s: %w", step.what, err)
		}
	}
	return nil
}

// image is a file system being written.
type image struct {
	layout
	w     io.WriterAt
	label string
	uuid  [16]byte
	dirs  []string
	seed  uint32 // of all metadata checksums: that of the UUID (checksums.rst)
}

func (fs *image) writeBlock(n uint64, b []byte) error {
	_, err := fs.w.WriteAt(b, int64(n)*blockSize)
	return err
}

func (o Options) check() error {
	switch {
	case o.Size < MinSize:
		return fmt.Errorf("a size of %d bytes is less than the minimum of %d", o.Size, int64(MinSize))
	case o.Size > MaxSize:
		return fmt.Errorf("a size of %d bytes is more than the maximum of %d", o.Size, int64(MaxSize))
	case o.Size%blockSize != 0:
		return fmt.Errorf("a size of %d bytes is not a multiple of %d", o.Size, blockSize)
	case len(o.Label) > maxLabel || strings.ContainsRune(o.Label, 0):
		return fmt.Errorf("the label %q is not 0 to %d bytes without NUL", o.Label, maxLabel)
	}
	if j := o.JournalSize; j != 0 && (j < minJournal || j > maxJournal || j > o.Size/2 || j%blockSize != 0) {
		return fmt.Errorf("a journal of %d bytes is not a multiple of %d between %d and %d, at most half of the size",
			j, blockSize, minJournal, maxJournal)
	}
	return checkDirs(o.Dirs)
}

func checkDirs(dirs []string) error {
	if len(dirs) > maxDirs {
		return fmt.Errorf("%d directories are more than %d", len(dirs), maxDirs)
	}
	seen := map[string]bool{"": true, ".": true, "..": true}
	space := blockSize - dirTailSize - 2*direntSize(1)
	for _, name := range dirs {
		if seen[name] || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("%q cannot be the name of a new directory", name)
		}
		seen[name] = true
		space -= direntSize(len(name))
	}
	if space < 0 {
		return fmt.Errorf("the names of %d directories do not fit into one block", len(dirs))
	}
	return nil
}

// uuid returns o.UUID or, where that is unset, one made of the other options
// in the form that RFC 9562 section 5.8 leaves to applications (version 8).
func (o Options) uuid() [16]byte {
	if o.UUID != ([16]byte{}) {
		return o.UUID
	}
	h := sha256.New()
	fmt.Fprintf(h, "ext4 %d %d %q %q", o.Size, o.JournalSize, o.Label, o.Dirs)
	id := [16]byte(h.Sum(nil))
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// record is a fixed-size structure of little-endian fields at byte offsets.
type record []byte

func (r record) u16(off int, v uint16) { binary.LittleEndian.PutUint16(r[off:], v) }
func (r record) u32(off int, v uint32) { binary.LittleEndian.PutUint32(r[off:], v) }

// split32 writes a value in two halves, as the format widened its fields.
func (r record) split32(lo, hi int, v uint32) {
	r.u16(lo, uint16(v))
	r.u16(hi, uint16(v>>16))
}

func (r record) split64(lo, hi int, v uint64) {
	r.u32(lo, uint32(v))
	r.u32(hi, uint32(v>>32))
}
