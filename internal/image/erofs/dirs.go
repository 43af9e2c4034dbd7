package erofs

import (
	"encoding/binary"
	"iter"
	"slices"
)

// rootRoom is what block 0 has for the root's inode and what follows it.
const rootRoom = blockSize - rootNID*slotSize

// dirPlace is where and how Close writes a directory.
type dirPlace struct {
	nid    uint64
	off    int64 // of the inode
	names  []string
	body   []byte // attributes
	start  uint32 // of the blocks that are not behind the inode
	size   int64
	nlink  uint32
	inline bool   // the last block is behind the inode
	item   []byte // of the root: the inode and what follows it
}

// placeDir finds a place for d and all directories below it, so that their
// node numbers are known.
func (w *Writer) placeDir(d *dir) error {
	p := &d.place
	p.names = append(d.names(), ".", "..")
	slices.Sort(p.names)
	p.nlink = 2

	var blocks, last int64
	for block := range direntBlocks(p.names) {
		blocks++
		last = direntBytes(block)
	}
	p.size = (blocks-1)<<blockBits + last

	var err error
	if p.body, err = w.xattrBody(d.xattrs, false); err != nil {
		return err
	}
	room := int64(blockSize)
	if d == w.root {
		room = rootRoom
		if inodeSize+int64(len(p.body)) > room {
			if p.body, err = w.xattrBody(d.xattrs, true); err != nil {
				return err
			}
		}
		if inodeSize+int64(len(p.body)) > room {
			return &LimitError{"bytes of the root's extended attributes", rootRoom - inodeSize}
		}
	}
	item := inodeSize + int64(len(p.body))
	if p.inline = item+last <= room; p.inline {
		item += last
		blocks--
	}
	p.off = rootNID * slotSize
	if d != w.root {
		if p.off, err = w.space.item(item, slotSize); err != nil {
			return err
		}
	}
	p.nid = uint64(p.off / slotSize)
	if p.start, err = w.space.blocks(blocks); err != nil {
		return err
	}
	for _, name := range p.names {
		if n := d.children[name]; n != nil && n.dir != nil {
			p.nlink++
			if err := w.placeDir(n.dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeDir writes d and all directories below it, and the link counts of all
// entries in them.
func (w *Writer) writeDir(d *dir) error {
	p := &d.place
	w.lastIno++
	inode := diskInode{
		layout:     layoutPlain,
		xattrCount: uint16(xattrCount(p.body)),
		mode:       d.mode,
		size:       uint64(p.size),
		union:      p.start,
		ino:        w.lastIno,
		uid:        d.uid, gid: d.gid,
		sec: d.sec, nsec: d.nsec,
		nlink: p.nlink,
	}
	if p.inline {
		inode.layout = layoutInline
	}
	item := append(w.item[:0], make([]byte, inodeSize)...)
	item = append(item, p.body...)
	off := int64(p.start) << blockBits
	left := p.size
	for names := range direntBlocks(p.names) {
		block := w.block[:]
		d.encodeDirents(block, names)
		if left -= blockSize; left <= 0 && p.inline {
			item = append(item, block[:direntBytes(names)]...)
			break
		}
		if err := w.out.write(block, off); err != nil {
			return w.fatal(err)
		}
		off += blockSize
	}
	inode.encode(item)
	if d == w.root {
		p.item = append([]byte{}, item...)
	} else if err := w.out.write(item, p.off); err != nil {
		return w.fatal(err)
	}
	w.item = item
	return w.writeChildren(d)
}

// writeChildren writes the directories in d, and the link counts of all else.
func (w *Writer) writeChildren(d *dir) error {
	for _, name := range d.place.names {
		n := d.children[name]
		var err error
		switch {
		case n == nil: // "." and ".."
		case n.dir != nil:
			err = w.writeDir(n.dir)
		default:
			err = w.setLinks(n.ino)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// direntBlocks cuts a directory's names into those of each block.
func direntBlocks(names []string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for len(names) > 0 {
			n, used := 0, 0
			for n < len(names) {
				if used += direntSize + len(names[n]); used > blockSize {
					break
				}
				n++
			}
			if !yield(names[:n]) {
				return
			}
			names = names[n:]
		}
	}
}

// direntBytes is what a block's entries take.
func direntBytes(names []string) int64 {
	n := int64(0)
	for _, name := range names {
		n += direntSize + int64(len(name))
	}
	return n
}

// encodeDirents makes one block of d: erofs_dirent for each name, then the
// names without anything between them, then zeros.
func (d *dir) encodeDirents(block []byte, names []string) {
	nameOff := direntSize * len(names)
	for i, name := range names {
		nid, kind := d.entry(name)
		b := block[i*direntSize:]
		binary.LittleEndian.PutUint64(b, nid)
		binary.LittleEndian.PutUint16(b[8:], uint16(nameOff))
		b[10], b[11] = kind, 0
		nameOff += copy(block[nameOff:], name)
	}
	clear(block[nameOff:])
}

// entry gives the node number and type of a name in d.
func (d *dir) entry(name string) (nid uint64, kind byte) {
	n := d.children[name]
	switch {
	case name == ".":
		return d.place.nid, direntType(modeDir)
	case name == "..":
		return d.parent.place.nid, direntType(modeDir)
	case n.dir != nil:
		return n.dir.place.nid, direntType(modeDir)
	}
	return n.ino.nid, direntType(n.ino.mode)
}
