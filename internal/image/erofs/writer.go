package erofs

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Entry describes one name of the tree and what it stands for.
type Entry struct {
	// Name is the path from the root, with or without a leading slash.
	// Symbolic links in its directories are followed inside the image.
	// Missing directories are made, with mode 0755, owner 0:0 and the time
	// 1970; below a directory with setgid they have that and its group too.
	// "", "." and "/" are the root, which can only be a directory.
	Name string
	// Mode has the permissions, setuid, setgid, sticky, and the type.
	Mode     fs.FileMode
	UID, GID uint32
	// ModTime is kept to the nanosecond; the zero Time is 1970.
	ModTime time.Time
	// Size is a regular file's, in bytes. Others' is ignored.
	Size int64
	// Target is what a symbolic link points to, in up to 4095 bytes.
	Target string
	// Major (up to 4095) and Minor (up to 1048575) number a device.
	Major, Minor uint32
	// Xattrs are extended attributes by their full names. [HasXattr] tells
	// which names there can be.
	Xattrs map[string][]byte
}

// Writer makes one image. It is not for concurrent use. After an error in
// writing to the destination, every call returns that error; after any other,
// the image is without the entry in question and can go on.
type Writer struct {
	opts   Options
	out    window
	space  space
	root   *dir
	shared map[string]uint32 // attributes seen, and their references or 0

	layer   int
	inodes  uint64 // that can be reached
	lastIno uint32
	chunked bool // some file has holes

	added, content, memory int64 // what Options bound

	// Memory that is used again and again.
	piece []byte          // for data that does not pass through out's
	tail  []byte          // the last partial block of the file being written
	item  []byte          // an inode and what follows it
	block [blockSize]byte // of a directory
	err   error
}

// Create starts an image at the beginning of w. The image has no end until
// Close; w need not be empty, but is not cut off at the image's end.
func Create(w io.WriterAt, opts Options) *Writer {
	root := &dir{mode: modeDir | 0o755}
	root.parent = root
	return &Writer{
		opts:   opts.withDefaults(),
		out:    newWindow(w),
		space:  space{next: 1},
		root:   root,
		shared: make(map[string]uint32),
		inodes: 1,
		piece:  make([]byte, pieceSize),
		tail:   make([]byte, 0, blockSize),
	}
}

// check says why nothing more can be done, if so.
func (w *Writer) check() error { return w.err }

// fatal remembers an error of the destination.
func (w *Writer) fatal(err error) error {
	if err != nil && w.err == nil {
		w.err = err
	}
	return err
}

// Add puts an entry into the tree, with e.Size bytes from content if it is a
// regular file; for all others, and for empty files, content may be nil. What
// stood there is replaced, except that a directory in place of a directory
// keeps the entries below it.
func (w *Writer) Add(e *Entry, content io.Reader) error {
	if err := w.check(); err != nil {
		return err
	}
	if err := w.add(e, content); err != nil {
		return fmt.Errorf("adding %.200q: %w", e.Name, err)
	}
	return nil
}

func (w *Writer) add(e *Entry, content io.Reader) error {
	mode, err := w.checkEntry(e)
	if err != nil {
		return err
	}
	parts, err := splitName(e.Name)
	if err != nil {
		return err
	}
	xattrs, err := w.sortXattrs(e.Xattrs)
	if err != nil {
		return err
	}
	if mode&modeFmt == modeDir {
		return w.addDir(e, mode, parts, xattrs)
	}
	if len(parts) == 0 {
		return ErrName
	}
	last := len(parts) - 1
	d, err := w.walk(parts[:last], true)
	if err != nil {
		return err
	}
	body, err := w.xattrBody(xattrs, false)
	if err != nil {
		return err
	}
	ino, err := w.store(e, mode, body, content)
	if err != nil {
		return err
	}
	if _, err := w.put(d, parts[last], &node{ino: ino}); err != nil {
		w.space.release(ino.data)
		return err
	}
	w.inodes++
	return nil
}

// checkEntry checks all of an entry but its name and attributes.
func (w *Writer) checkEntry(e *Entry) (mode uint16, err error) {
	mode, ok := unixMode(e.Mode)
	if !ok {
		return 0, fmt.Errorf("file type %v: %w", e.Mode.Type(), ErrEntry)
	}
	switch mode & modeFmt {
	case modeRegular:
		if e.Size < 0 {
			return 0, fmt.Errorf("size %d: %w", e.Size, ErrEntry)
		}
		if e.Size > w.opts.MaxContent-w.content {
			return 0, &LimitError{"bytes of content", w.opts.MaxContent}
		}
	case modeSymlink:
		if e.Target == "" || strings.IndexByte(e.Target, 0) >= 0 {
			return 0, fmt.Errorf("symbolic link to %.200q: %w", e.Target, ErrEntry)
		}
		if len(e.Target) > maxTargetLen {
			return 0, &LimitError{"bytes of a symbolic link's target", maxTargetLen}
		}
	case modeBlock, modeChar:
		if e.Major > maxMajor || e.Minor > maxMinor {
			return 0, fmt.Errorf("device %d:%d: %w", e.Major, e.Minor, ErrEntry)
		}
	}
	return mode, nil
}

// addDir makes a directory, or gives one that exists new attributes.
func (w *Writer) addDir(e *Entry, mode uint16, parts []string, xattrs []xattr) error {
	sec, nsec := epoch(e.ModTime)
	d := &dir{mode: mode, uid: e.UID, gid: e.GID, sec: sec, nsec: nsec, xattrs: xattrs}
	if len(parts) == 0 {
		if len(xattrs) > maxShared { // block 0 has no room for others
			return &LimitError{"extended attributes of the root", maxShared}
		}
		return w.remake(w.root, d, 0)
	}
	last := len(parts) - 1
	parent, err := w.walk(parts[:last], true)
	if err != nil {
		return err
	}
	old := parent.children[parts[last]]
	if old == nil || old.dir == nil {
		_, err = w.put(parent, parts[last], &node{dir: d})
		return err
	}
	if w.added >= w.opts.MaxEntries {
		return &LimitError{"entries", w.opts.MaxEntries}
	}
	w.added++
	renewed := node{name: old.name, dir: d}
	if err := w.remake(old.dir, d, renewed.cost()-old.cost()); err != nil {
		return err
	}
	old.layer = w.layer
	return nil
}

// remake gives d the attributes of attrs, which take cost more bytes.
func (w *Writer) remake(d, attrs *dir, cost int64) error {
	if err := w.charge(cost); err != nil {
		return err
	}
	d.mode, d.uid, d.gid = attrs.mode, attrs.uid, attrs.gid
	d.sec, d.nsec, d.xattrs = attrs.sec, attrs.nsec, attrs.xattrs
	return nil
}

// Link makes name another name of what target stands for, which can be all but
// a directory and must exist: else the error wraps [fs.ErrNotExist]. Symbolic
// links are followed in the directories of both, but not at their ends.
func (w *Writer) Link(name, target string) error {
	if err := w.check(); err != nil {
		return err
	}
	if err := w.link(name, target); err != nil {
		return fmt.Errorf("linking %.200q to %.200q: %w", name, target, err)
	}
	return nil
}

func (w *Writer) link(name, target string) error {
	parents, base, err := splitEntry(target)
	if err != nil {
		return err
	}
	d, err := w.walk(parents, false)
	if err != nil {
		return err
	}
	old := d.children[base]
	if old == nil {
		return fs.ErrNotExist
	}
	if old.dir != nil {
		return fmt.Errorf("hard link to a directory: %w", ErrEntry)
	}
	if parents, base, err = splitEntry(name); err != nil {
		return err
	}
	// Making room for the new name may remove the old one.
	old.ino.nlink++
	if d, err = w.walk(parents, true); err == nil {
		if same := d.children[base]; same != nil && same.ino == old.ino {
			same.layer = w.layer
			old.ino.nlink--
			return nil
		}
		_, err = w.put(d, base, &node{ino: old.ino})
	}
	if err != nil {
		w.unlink(old.ino)
	}
	return err
}

// store writes all of an entry that is no directory.
func (w *Writer) store(e *Entry, mode uint16, body []byte, content io.Reader) (*inode, error) {
	sec, nsec := epoch(e.ModTime)
	disk := diskInode{
		xattrCount: uint16(xattrCount(body)),
		mode:       mode,
		uid:        e.UID, gid: e.GID,
		sec: sec, nsec: nsec,
		nlink: 1,
	}
	ino := &inode{nlink: 1, stored: 1, mode: mode}
	var behind []byte // what follows the attributes
	switch mode & modeFmt {
	case modeRegular, modeSymlink:
		size := e.Size
		if mode&modeFmt == modeSymlink {
			ino.target = strings.Clone(e.Target)
			size, content = int64(len(e.Target)), strings.NewReader(e.Target)
		} else {
			w.content += size
		}
		data, err := w.writeData(content, size, int64(len(body)))
		if err != nil {
			return nil, err
		}
		disk.layout, disk.size, disk.union = data.layout, uint64(size), data.union
		ino.data, behind = data.extent, data.behind
	case modeBlock, modeChar:
		disk.union = encodeDev(e.Major, e.Minor)
	}
	off, err := w.writeInode(&disk, body, behind)
	if err != nil {
		w.space.release(ino.data)
		return nil, err
	}
	ino.nid = uint64(off / slotSize)
	return ino, nil
}

// writeInode writes an inode and what follows it to a place of its own.
func (w *Writer) writeInode(disk *diskInode, body, behind []byte) (off int64, err error) {
	w.lastIno++
	disk.ino = w.lastIno
	item := append(w.item[:0], make([]byte, inodeSize)...)
	disk.encode(item)
	item = append(append(item, body...), behind...)
	w.item = item
	if off, err = w.space.item(int64(len(item)), slotSize); err != nil {
		return 0, err
	}
	return off, w.fatal(w.out.write(item, off))
}

// setLinks puts right the link count of an inode in the image.
func (w *Writer) setLinks(ino *inode) error {
	if ino.nlink == ino.stored {
		return nil
	}
	ino.stored = ino.nlink
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], ino.nlink)
	return w.fatal(w.out.write(b[:], int64(ino.nid)*slotSize+nlinkOffset))
}

// Close writes the directories and the superblock and gives the image's size,
// a multiple of 4096 bytes. It does not close the destination.
func (w *Writer) Close() (size int64, err error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	defer func() { w.fatal(ErrClosed) }()
	if err := w.placeDir(w.root); err != nil {
		return 0, fmt.Errorf("laying out the directories: %w", err)
	}
	if err := w.writeDir(w.root); err != nil {
		return 0, err
	}
	w.space.next = max(w.space.next, uint32(blocksFor(w.out.end())))
	size = int64(w.space.next) << blockBits
	super := superblock{
		inodes:    w.inodes,
		blocks:    w.space.next,
		buildTime: w.opts.BuildTime,
		uuid:      w.opts.UUID,
	}
	if w.chunked {
		super.incompat |= incompatChunked
	}
	block0 := make([]byte, blockSize)
	copy(block0[rootNID*slotSize:], w.root.place.item)
	super.encode(block0)
	if err := w.out.write(block0, 0); err != nil {
		return 0, w.fatal(err)
	}
	if err := w.out.fill(size); err != nil {
		return 0, w.fatal(err)
	}
	return size, w.fatal(w.out.flush())
}
