// Package rofs writes and reads OSv's read-only file system, as OSv's
// fs/rofs/*.cc reads and its scripts/gen-rofs-img.py writes it. All numbers are
// little-endian, a block has 512 bytes:
//
//	block 0    superblock: eight u64, which are the magic 0xDEADBEAD, the
//	           version 1, the size of a block, the first of the blocks that
//	           hold the tables, how many there are of those, and how many
//	           directory entries, symbolic links and inodes are in the tables
//	block 1…   content of files, each from the beginning of a block on
//	tables     one behind the other, without gaps:
//	           directory entries: u64 inode number, u16 length, name
//	           symbolic links: u16 length, target
//	           inodes: four u64, which are mode, number, offset and count
//
// An inode's number is its place in the table, from 1 on; number 1 is the root
// directory. Mode is one of 0x4000, 0x8000 and 0xA000. Of a directory, offset
// and count are its first entry and how many it has, which lie together; of a
// file, its first block and its size in bytes; of a symbolic link, its place in
// their table, and 1. There are no owners, permissions or times: to OSv, all of
// it is root's and has the mode 0555.
//
// A Tree is what goes in: sequences of tar entries, laid upon each other. They
// are read twice, first for names and sizes and then for content, so that the
// file system is written from its first byte to its last, without a temporary
// file, and holds nothing that a later sequence has replaced. The same entries
// give the same bytes.
package rofs

import "io/fs"

const (
	// Block is the size of a block in bytes.
	Block = 512
	// Magic begins the superblock.
	Magic = 0xDEADBEAD

	version   = 1
	superSize = 8 * 8
	inodeSize = 4 * 8

	modeDir  = 0x4000
	modeFile = 0x8000
	modeLink = 0xA000
)

// Bounds on what is written and read. OSv keeps all tables in memory.
const (
	maxEntries = 1 << 20
	maxTables  = 256 << 20 // bytes
	maxContent = 64 << 30  // bytes
	maxName    = 255       // OSv's NAME_MAX
	maxPath    = 4096      // and PATH_MAX
)

// Error is what cannot be in a ROFS, or is none, and the way out.
type Error struct{ text, hint string }

func (e *Error) Error() string { return e.text }

// Hint is the way out.
func (e *Error) Hint() string { return e.hint }

// Entry is one file, directory or symbolic link.
type Entry struct {
	Path   string      // slash separated, relative to the root, which is "."
	Type   fs.FileMode // 0, fs.ModeDir or fs.ModeSymlink
	Size   int64       // of a file
	Target string      // of a symbolic link
	block  int64       // of a file
}
