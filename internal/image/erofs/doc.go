// Package erofs writes and reads EROFS file systems, the read-only format that
// Linux mounts as an instance's root. It is a plain io library: it knows what
// a tree of files is and nothing of images, layers' media types or registries.
//
// # Writing
//
// [Create] starts an image, [Writer.Add], [Writer.Link] and
// [Writer.AddTar] put entries into it in any order, and [Writer.Close]
// finishes it. Content goes to the destination while it is being read; only
// names, links and directory attributes stay in memory until Close, some 200
// bytes an entry and 600 a directory. Later entries replace earlier ones. [Writer.BeginLayer],
// [Writer.Whiteout] and [Writer.Opaque] are what a union of layers needs on
// top of that; recognising whiteout names is left to the caller.
//
// The same calls give the same bytes. Nothing is taken from the clock, the
// host, or the order of a map.
//
// # Layout
//
// The format is that of fs/erofs/erofs_fs.h in Linux 6.12 and of
// Documentation/filesystems/erofs.rst. Blocks have 4096 bytes. Block 0 holds
// the superblock at byte 1024 and, right behind it, the root's inode, because
// root_nid has only 16 bits. The metadata area and the shared attributes both
// start at block 0, so that inodes and attributes can lie anywhere: each is
// written beside its file's data as the file arrives, in blocks that are
// filled with several inodes, their attributes and their files' last partial
// blocks (tail packing). Directories come last. Inodes are of the extended
// kind: the compact one has no time stamp.
//
// A file in which aligned runs of 64 KiB or more are zero is stored by chunks,
// and those runs take no space. All other files are contiguous.
//
// The data of an entry that is replaced or removed is overwritten by a later
// file that fits into its place; what is never reused stays in the image as
// unreachable blocks.
//
// # Reading
//
// [Open] gives an image as an [io/fs.FS] with owners, links, device numbers
// and extended attributes. It reads what this package writes: uncompressed
// images on one device.
package erofs
