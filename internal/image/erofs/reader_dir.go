package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
)

// dirBlock is a block of a directory, cut to the directory's size.
type dirBlock []byte

// count gives the number of entries after checking that they lie in the block.
func (b dirBlock) count() (int, error) {
	if len(b) < direntSize {
		return 0, fmt.Errorf("directory block of %d bytes: %w", len(b), ErrFormat)
	}
	off := int(binary.LittleEndian.Uint16(b[8:]))
	if off < direntSize || off%direntSize != 0 || off > len(b) {
		return 0, fmt.Errorf("directory block with names at %d: %w", off, ErrFormat)
	}
	return off / direntSize, nil
}

// entry gives the i-th of n entries.
func (b dirBlock) entry(i, n int) (name []byte, nid uint64, err error) {
	d := b[i*direntSize:]
	start, end := int(binary.LittleEndian.Uint16(d[8:])), len(b)
	if i+1 < n {
		end = int(binary.LittleEndian.Uint16(d[direntSize+8:]))
	}
	if start > end || end > len(b) {
		return nil, 0, fmt.Errorf("directory entry with its name at %d to %d: %w", start, end, ErrFormat)
	}
	name = b[start:end]
	if i+1 == n {
		name, _, _ = bytes.Cut(name, []byte{0})
	}
	if len(name) == 0 || len(name) > maxNameLen || bytes.ContainsAny(name, "/\x00") {
		return nil, 0, fmt.Errorf("directory entry %q: %w", name, ErrFormat)
	}
	return name, binary.LittleEndian.Uint64(d), nil
}

// dirBlock reads the i-th block of a directory.
func (f *FS) dirBlock(in *readInode, i int64) (dirBlock, error) {
	pos := i << f.bits
	b := make(dirBlock, min(in.size-pos, 1<<f.bits))
	if _, err := f.readAt(in, b, pos); err != nil {
		return nil, err
	}
	return b, nil
}

// find looks a name up in a directory; the error may wrap fs.ErrNotExist.
func (f *FS) find(in *readInode, name string) (nid uint64, err error) {
	blocks := int((in.size + 1<<f.bits - 1) >> f.bits)
	var failed error
	// The first block whose first name is greater; it is in the one before.
	at := sort.Search(blocks, func(i int) bool {
		b, err := f.dirBlock(in, int64(i))
		if err == nil {
			var n int
			if n, err = b.count(); err == nil {
				var first []byte
				if first, _, err = b.entry(0, n); err == nil {
					return string(first) > name
				}
			}
		}
		failed = errors.Join(failed, err)
		return true
	})
	if failed != nil || at == 0 {
		return 0, errors.Join(failed, fs.ErrNotExist)
	}
	b, err := f.dirBlock(in, int64(at-1))
	if err != nil {
		return 0, err
	}
	n, err := b.count()
	if err != nil {
		return 0, err
	}
	i := sort.Search(n, func(i int) bool {
		got, _, err := b.entry(i, n)
		failed = errors.Join(failed, err)
		return string(got) >= name
	})
	if failed != nil || i == n {
		return 0, errors.Join(failed, fs.ErrNotExist)
	}
	got, nid, err := b.entry(i, n)
	if err == nil && string(got) != name {
		err = fs.ErrNotExist
	}
	return nid, err
}

// file is an open file or directory.
type file struct {
	fs   *FS
	name string
	in   *readInode
	pos  int64
	// of a directory:
	block int64 // the next to be read
	rest  []fs.DirEntry
}

func (f *file) Close() error { return nil }

func (f *file) Stat() (fs.FileInfo, error) { return &fileInfo{f.name, f.in}, nil }

func (f *file) Read(p []byte) (int, error) {
	if f.in.mode.IsDir() {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: errors.New("is a directory")}
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.fs.readAt(f.in, p, f.pos)
	f.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt implements [io.ReaderAt].
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if f.in.mode.IsDir() || off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	return f.fs.readAt(f.in, p, off)
}

// Seek implements [io.Seeker].
func (f *file) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.in.size
	}
	if f.in.mode.IsDir() || offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	f.pos = offset
	return offset, nil
}

// dirFile adds what only directories have.
type dirFile struct{ file }

// ReadDir implements [fs.ReadDirFile].
func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	blocks := (d.in.size + 1<<d.fs.bits - 1) >> d.fs.bits
	for d.block < blocks && (n <= 0 || len(d.rest) < n) {
		b, err := d.fs.dirBlock(d.in, d.block)
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: err}
		}
		count, err := b.count()
		for i := 0; err == nil && i < count; i++ {
			var name []byte
			var nid uint64
			if name, nid, err = b.entry(i, count); err != nil {
				break
			}
			if s := string(name); s != "." && s != ".." {
				d.rest = append(d.rest, &dirEntry{d.fs, s, nid, b[i*direntSize+10]})
			}
		}
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: err}
		}
		d.block++
	}
	if n <= 0 {
		n = len(d.rest)
	} else if len(d.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.rest))
	list := d.rest[:n:n]
	d.rest = d.rest[n:]
	return list, nil
}

type dirEntry struct {
	fs   *FS
	name string
	nid  uint64
	kind byte
}

func (e *dirEntry) Name() string               { return e.name }
func (e *dirEntry) IsDir() bool                { return e.Type().IsDir() }
func (e *dirEntry) String() string             { return fs.FormatDirEntry(e) }
func (e *dirEntry) Info() (fs.FileInfo, error) { return e.fs.info(e.name, e.nid) }

func (e *dirEntry) Type() fs.FileMode {
	types := [...]fs.FileMode{
		2: fs.ModeDir,
		3: fs.ModeDevice | fs.ModeCharDevice,
		4: fs.ModeDevice,
		5: fs.ModeNamedPipe,
		6: fs.ModeSocket,
		7: fs.ModeSymlink,
	}
	if int(e.kind) < len(types) {
		return types[e.kind]
	}
	return fs.ModeIrregular
}
