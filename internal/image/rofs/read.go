package rofs

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// FS is an open file system. What it says of itself has been checked: all
// places are inside, every directory is in one place, and the root holds them
// all or they are not to be found.
type FS struct {
	r       io.ReaderAt
	blocks  int64 // of the file system; the tables end it
	entries []entry
	links   []string
	inodes  []inode
}

type entry struct {
	name  string
	inode int // index
}

type inode struct {
	mode          uint64
	offset, count int64
}

// damaged is a file system that contradicts itself.
func damaged(format string, args ...any) error {
	return &Error{"this ROFS is damaged: " + fmt.Sprintf(format, args...), "make the image anew"}
}

// Recognise tells whether a file system begins with these bytes.
func Recognise(head []byte) bool {
	return len(head) >= superSize && binary.LittleEndian.Uint64(head) == Magic
}

// Open opens the file system in so many bytes, and reads its tables.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	var super [superSize]byte
	if _, err := r.ReadAt(super[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading a ROFS: %w", err)
	}
	if !Recognise(super[:]) {
		return nil, &Error{"this is no ROFS", "another file"}
	}
	field := func(n int) uint64 { return binary.LittleEndian.Uint64(super[8*n:]) }
	if field(1) != version || field(2) != Block {
		return nil, &Error{fmt.Sprintf("this ROFS is of version %d with blocks of %d bytes, and only version %d with %d is known", field(1), field(2), version, Block), "an image that OSv boots"}
	}
	first, count, all := field(3), field(4), uint64(size)/Block
	if first < 1 || first > all || count > all-first || count > maxTables/Block {
		return nil, damaged("its tables are not inside")
	}
	for n := 5; n < 8; n++ {
		if field(n) > maxEntries+1 {
			return nil, damaged("it says that it has %d files", field(n))
		}
	}
	b, err := io.ReadAll(io.NewSectionReader(r, int64(first)*Block, int64(count)*Block))
	if err != nil {
		return nil, fmt.Errorf("reading a ROFS: %w", err)
	}
	f := &FS{r: r, blocks: int64(first)}
	if err := f.parse(b, int(field(5)), int(field(6)), int(field(7))); err != nil {
		return nil, err
	}
	return f, f.check()
}

// parse reads the tables.
func (f *FS) parse(b []byte, entries, links, inodes int) error {
	le := binary.LittleEndian
	short := damaged("its tables end too early")
	text := func() (string, bool) {
		if len(b) < 2 || len(b)-2 < int(le.Uint16(b)) {
			return "", false
		}
		n := 2 + int(le.Uint16(b))
		s := string(b[2:n])
		b = b[n:]
		return s, true
	}
	for range entries {
		if len(b) < 8 {
			return short
		}
		n := le.Uint64(b)
		b = b[8:]
		name, ok := text()
		if !ok {
			return short
		}
		if n < 1 || n > uint64(inodes) || name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
			return damaged("entry %s leads to inode %d", clip(name), n)
		}
		f.entries = append(f.entries, entry{name, int(n - 1)})
	}
	for range links {
		target, ok := text()
		if !ok {
			return short
		}
		f.links = append(f.links, target)
	}
	if len(b) < inodes*inodeSize || inodes == 0 {
		return short
	}
	for n := range inodes {
		i := b[n*inodeSize:]
		f.inodes = append(f.inodes, inode{le.Uint64(i), int64(le.Uint64(i[16:])), int64(le.Uint64(i[24:]))})
	}
	return nil
}

// check says whether the inodes lead anywhere else than they should. That each
// entry is of one directory, and each directory of one entry, bounds walks.
func (f *FS) check() error {
	if f.inodes[0].mode != modeDir {
		return damaged("its root is no directory")
	}
	owned, placed := make([]bool, len(f.entries)), make([]bool, len(f.inodes))
	placed[0] = true
	for n, i := range f.inodes {
		if i.offset < 0 || i.count < 0 {
			return damaged("inode %d is out of bounds", n+1)
		}
		inside := false
		switch i.mode {
		case modeDir:
			if inside = i.count <= int64(len(f.entries)) && i.offset <= int64(len(f.entries))-i.count; !inside {
				break
			}
			for e := i.offset; e < i.offset+i.count; e++ {
				to := f.entries[e].inode
				if owned[e] || placed[to] && f.inodes[to].mode == modeDir {
					return damaged("directories lie in several places")
				}
				owned[e], placed[to] = true, true
			}
		case modeFile:
			inside = i.offset >= 1 && i.offset <= f.blocks && i.count <= (f.blocks-i.offset)*Block
		case modeLink:
			inside = i.offset < int64(len(f.links))
		}
		if !inside {
			return damaged("inode %d is out of bounds", n+1)
		}
	}
	return nil
}

// Entries yields all but the root, parents first, in the order that is stored.
func (f *FS) Entries() func(yield func(Entry) bool) {
	return func(yield func(Entry) bool) { f.walk(f.inodes[0], "", 0, yield) }
}

// maxDepth bounds how deep directories nest, as the longest path does.
const maxDepth = maxPath / 2

func (f *FS) walk(dir inode, at string, depth int, yield func(Entry) bool) bool {
	if depth > maxDepth {
		return true
	}
	for _, e := range f.entries[dir.offset : dir.offset+dir.count] {
		found := f.entry(e.inode, path.Join(at, e.name))
		if !yield(found) || found.Type.IsDir() && !f.walk(f.inodes[e.inode], found.Path, depth+1, yield) {
			return false
		}
	}
	return true
}

func (f *FS) entry(n int, name string) Entry {
	i := f.inodes[n]
	e := Entry{Path: name}
	switch i.mode {
	case modeDir:
		e.Type = fs.ModeDir
	case modeLink:
		e.Type, e.Target = fs.ModeSymlink, f.links[i.offset]
	default:
		e.Size, e.block = i.count, i.offset
	}
	return e
}

// Lookup returns what is at a path. Symbolic links are not followed.
func (f *FS) Lookup(name string) (Entry, bool) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	n := 0
	if name == "" {
		return f.entry(0, "."), true
	}
	for element := range strings.SplitSeq(name, "/") {
		dir := f.inodes[n]
		if dir.mode != modeDir {
			return Entry{}, false
		}
		found := false
		for _, e := range f.entries[dir.offset : dir.offset+dir.count] {
			if found = e.name == element; found {
				n = e.inode
				break
			}
		}
		if !found {
			return Entry{}, false
		}
	}
	return f.entry(n, name), true
}

// Content is a file's.
func (f *FS) Content(e Entry) *io.SectionReader {
	return io.NewSectionReader(f.r, e.block*Block, e.Size)
}

// Source is the file system as a source of another.
func (f *FS) Source(name string) Source {
	return Source{Name: name, Each: func(ctx context.Context, each func(*tar.Header, io.Reader) error) error {
		var err error
		for e := range f.Entries() {
			h := &tar.Header{Name: e.Path, Size: e.Size, Linkname: e.Target, Typeflag: tar.TypeReg}
			switch e.Type {
			case fs.ModeDir:
				h.Typeflag = tar.TypeDir
			case fs.ModeSymlink:
				h.Typeflag = tar.TypeSymlink
			}
			if err = each(h, f.Content(e)); err != nil {
				break
			}
		}
		return err
	}}
}
