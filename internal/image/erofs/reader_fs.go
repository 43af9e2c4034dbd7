package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// The standard library's names for what FS can do.
var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

type fileInfo struct {
	name string
	in   *readInode
}

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.in.size }
func (i *fileInfo) Mode() fs.FileMode  { return i.in.mode }
func (i *fileInfo) ModTime() time.Time { return i.in.mtime }
func (i *fileInfo) IsDir() bool        { return i.in.mode.IsDir() }
func (i *fileInfo) String() string     { return fs.FormatFileInfo(i) }

func (i *fileInfo) Sys() any {
	s := &Stat{Inode: i.in.nid, Nlink: i.in.nlink, UID: i.in.uid, GID: i.in.gid}
	if i.in.mode&fs.ModeDevice != 0 {
		s.Major, s.Minor = decodeDev(i.in.union)
	}
	return s
}

// info reads an inode as the information on a name.
func (f *FS) info(name string, nid uint64) (fs.FileInfo, error) {
	in, err := f.inode(nid)
	if err != nil {
		return nil, err
	}
	return &fileInfo{name, in}, nil
}

// resolve finds the inode that a name leads to. Symbolic links are followed,
// the last one only with follow.
func (f *FS) resolve(op, name string, follow bool) (*readInode, error) {
	if !validPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	in, err := f.lookup(splitTarget(name), follow)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return in, nil
}

// validPath is fs.ValidPath, except that names need not be UTF-8: those in
// images are not always.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

func (f *FS) lookup(parts []string, follow bool) (*readInode, error) {
	root, err := f.inode(f.root)
	if err != nil {
		return nil, err
	}
	if !root.mode.IsDir() {
		return nil, fmt.Errorf("root of mode %v: %w", root.mode, ErrFormat)
	}
	above := []*readInode{root} // the way from the root
	followed, targets := 0, 0
	for step := 0; len(parts) > 0; step++ {
		if step > maxSteps {
			return nil, ErrLoop
		}
		name := parts[0]
		parts = parts[1:]
		cur := above[len(above)-1]
		if !cur.mode.IsDir() {
			return nil, fs.ErrNotExist
		}
		if name == ".." {
			above = above[:max(1, len(above)-1)]
			continue
		}
		nid, err := f.find(cur, name)
		if err != nil {
			return nil, err
		}
		next, err := f.inode(nid)
		if err != nil {
			return nil, err
		}
		if next.mode.Type() != fs.ModeSymlink || (len(parts) == 0 && !follow) {
			above = append(above, next)
			continue
		}
		target, err := f.target(next)
		if err != nil {
			return nil, err
		}
		followed, targets = followed+1, targets+len(target)
		if followed > maxFollowed || targets > maxTargets {
			return nil, ErrLoop
		}
		if strings.HasPrefix(target, "/") {
			above = above[:1]
		}
		parts = append(splitTarget(target), parts...)
	}
	return above[len(above)-1], nil
}

// target reads a symbolic link.
func (f *FS) target(in *readInode) (string, error) {
	if in.size > maxTargetLen {
		return "", fmt.Errorf("symbolic link of %d bytes: %w", in.size, ErrFormat)
	}
	b := make([]byte, in.size)
	_, err := f.readAt(in, b, 0)
	return string(b), err
}

// Open opens a file or directory. Devices, FIFOs and sockets read as empty.
func (f *FS) Open(name string) (fs.File, error) {
	in, err := f.resolve("open", name, true)
	if err != nil {
		return nil, err
	}
	opened := file{fs: f, name: path.Base(name), in: in}
	if in.mode.IsDir() {
		return &dirFile{opened}, nil
	}
	return &opened, nil
}

// Stat describes what a name leads to.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	in, err := f.resolve("stat", name, true)
	if err != nil {
		return nil, err
	}
	return &fileInfo{path.Base(name), in}, nil
}

// Lstat describes what stands under a name, be it a symbolic link.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	in, err := f.resolve("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return &fileInfo{path.Base(name), in}, nil
}

// ReadLink gives the target of a symbolic link.
func (f *FS) ReadLink(name string) (string, error) {
	in, err := f.resolve("readlink", name, false)
	if err != nil {
		return "", err
	}
	if in.mode.Type() != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	target, err := f.target(in)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

// ReadDir lists a directory in the order of the names' bytes.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	in, err := f.resolve("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !in.mode.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	d := dirFile{file{fs: f, name: name, in: in}}
	return d.ReadDir(-1)
}

// Xattrs gives the extended attributes of what stands under a name, symbolic
// links at its end not followed. They are nil where there are none.
func (f *FS) Xattrs(name string) (map[string][]byte, error) {
	in, err := f.resolve("listxattr", name, false)
	if err != nil {
		return nil, err
	}
	attrs, err := f.xattrs(in)
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	return attrs, nil
}

func (f *FS) xattrs(in *readInode) (map[string][]byte, error) {
	if in.behind == in.xattrs {
		return nil, nil
	}
	body := make([]byte, in.behind-in.xattrs)
	if _, err := f.r.ReadAt(body, in.xattrs); err != nil {
		return nil, fmt.Errorf("reading the attributes of inode %d: %w", in.nid, err)
	}
	attrs := make(map[string][]byte)
	rest := body[xattrHeaderSize:]
	if 4*int(body[4]) > len(rest) {
		return nil, fmt.Errorf("%d shared attributes of inode %d: %w", body[4], in.nid, ErrFormat)
	}
	for range body[4] {
		off := f.shared + 4*int64(binary.LittleEndian.Uint32(rest))
		rest = rest[4:]
		shared, err := f.sharedXattr(off)
		if err != nil {
			return nil, err
		}
		if _, err := decodeXattr(shared, attrs); err != nil {
			return nil, err
		}
	}
	for len(rest) > 0 {
		n, err := decodeXattr(rest, attrs)
		if err != nil {
			return nil, err
		}
		rest = rest[min(n, len(rest)):]
	}
	return attrs, nil
}

// sharedXattr reads the attribute at a byte offset of the image.
func (f *FS) sharedXattr(off int64) ([]byte, error) {
	b := make([]byte, xattrEntrySize)
	_, err := f.r.ReadAt(b, off)
	if err == nil {
		b = append(b, make([]byte, int(b[0])+int(binary.LittleEndian.Uint16(b[2:])))...)
		_, err = f.r.ReadAt(b, off)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a shared attribute at %d: %w", off, err)
	}
	return b, nil
}

// decodeXattr puts the attribute at the start of b into attrs and gives its
// size.
func decodeXattr(b []byte, attrs map[string][]byte) (int, error) {
	if len(b) < xattrEntrySize {
		return 0, fmt.Errorf("extended attribute cut off: %w", ErrFormat)
	}
	nameEnd := xattrEntrySize + int(b[0])
	end := nameEnd + int(binary.LittleEndian.Uint16(b[2:]))
	if end > len(b) {
		return 0, fmt.Errorf("extended attribute cut off: %w", ErrFormat)
	}
	index := int(b[1])
	if index >= len(xattrPrefixes) || xattrPrefixes[index] == "" {
		return 0, fmt.Errorf("extended attribute in name space %d: %w", index, ErrFormat)
	}
	name := xattrPrefixes[index] + string(b[xattrEntrySize:nameEnd])
	attrs[name] = append([]byte{}, b[nameEnd:end]...)
	return roundUp(end, 4), nil
}
