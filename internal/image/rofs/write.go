package rofs

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// tables are the nodes in the order of the tables that describe them.
type tables struct {
	entries, links, inodes []*node
	first                  int64 // block
	bytes                  int64
}

// layOut gives everything its place. Tables are in the order in which
// gen-rofs-img.py has them: a directory's inode before those of what it holds,
// its entries behind those of the directories in it.
func (t *Tree) layOut() error {
	t.top.inode = 1
	t.tables.inodes = []*node{t.top}
	t.number(t.top)
	slices.SortFunc(t.files, func(a, b *content) int {
		return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.entry, b.entry))
	})
	at := int64(1) // behind the superblock
	for _, c := range t.files {
		c.block = at
		at += blocks(c.size)
	}
	t.tables.first = at
	t.tables.bytes = inodeSize * int64(len(t.tables.inodes))
	for _, n := range t.tables.entries {
		t.tables.bytes += 8 + 2 + int64(len(n.name))
	}
	for _, n := range t.tables.links {
		t.tables.bytes += 2 + int64(len(n.target))
	}
	if t.tables.bytes > maxTables {
		return &Error{fmt.Sprintf("the names of the files take more than %d MiB, which is the bound", maxTables>>20), "fewer files: those that the application needs"}
	}
	return nil
}

// number numbers what is in a directory, and collects contents.
func (t *Tree) number(dir *node) {
	children := dir.sorted()
	for _, n := range children {
		t.tables.inodes = append(t.tables.inodes, n)
		n.inode = len(t.tables.inodes)
		switch {
		case n.isDir():
			t.number(n)
		case n.content == nil:
			n.index = len(t.tables.links)
			t.tables.links = append(t.tables.links, n)
		case n.content.block == 0:
			n.content.block = 1 // it is in the tree
			t.files = append(t.files, n.content)
		}
	}
	dir.index = len(t.tables.entries)
	t.tables.entries = append(t.tables.entries, children...)
}

func blocks(bytes int64) int64 { return (bytes + Block - 1) / Block }

// Size is how many bytes Write writes.
func (t *Tree) Size() int64 { return (t.tables.first + blocks(t.tables.bytes)) * Block }

// Write writes the file system.
func (t *Tree) Write(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriterSize(w, 256<<10)
	if _, err := out.Write(t.superblock()); err != nil {
		return fmt.Errorf("writing the superblock: %w", err)
	}
	buf := make([]byte, 256<<10)
	err := t.Contents(ctx, func(e Entry, content io.Reader) error {
		n, err := io.CopyBuffer(out, io.LimitReader(content, e.Size), buf)
		if err == nil && n < e.Size {
			err = errChanged
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", e.Path, err)
		}
		return pad(out, e.Size)
	})
	if err != nil {
		return err
	}
	if err := t.writeTables(out); err != nil {
		return fmt.Errorf("writing the tables: %w", err)
	}
	return out.Flush()
}

// pad fills the block in which so many bytes end.
func pad(out io.Writer, bytes int64) error {
	var zeros [Block]byte
	_, err := out.Write(zeros[:blocks(bytes)*Block-bytes])
	return err
}

func (t *Tree) superblock() []byte {
	b := make([]byte, 0, Block)
	for _, v := range []int64{
		Magic, version, Block, t.tables.first, blocks(t.tables.bytes),
		int64(len(t.tables.entries)), int64(len(t.tables.links)), int64(len(t.tables.inodes)),
	} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b[:Block]
}

func (t *Tree) writeTables(out io.Writer) error {
	le := binary.LittleEndian
	var b []byte
	text := func(s string) { b = append(le.AppendUint16(b, uint16(len(s))), s...) }
	write := func() error {
		_, err := out.Write(b)
		b = b[:0]
		return err
	}
	for _, n := range t.tables.entries {
		b = le.AppendUint64(b, uint64(n.inode))
		text(n.name)
		if err := write(); err != nil {
			return err
		}
	}
	for _, n := range t.tables.links {
		text(n.target)
		if err := write(); err != nil {
			return err
		}
	}
	for _, n := range t.tables.inodes {
		mode, offset, count := int64(modeLink), int64(n.index), int64(1)
		switch {
		case n.isDir():
			mode, count = modeDir, int64(len(n.children))
		case n.content != nil:
			mode, offset, count = modeFile, n.content.block, n.content.size
		}
		for _, v := range []int64{mode, int64(n.inode), offset, count} {
			b = le.AppendUint64(b, uint64(v))
		}
		if err := write(); err != nil {
			return err
		}
	}
	return pad(out, t.tables.bytes)
}
