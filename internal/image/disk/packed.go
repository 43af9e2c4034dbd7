package disk

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// packing is how a block is compressed.
type packing int

const (
	plain packing = iota
	packedFlate
	packedZlib
	packedZstd
)

// maxBlock bounds the blocks that are unpacked, and what they are unpacked of.
const maxBlock = 4 << 20

// unpacked is the content of the compressed block that was read last: disks
// are mostly read in order, in pieces that are smaller than blocks.
type unpacked struct {
	of      extent
	content []byte
}

// unpack reads a part of a compressed block.
func (d *Disk) unpack(p []byte, e extent, within int64) error {
	end := within + int64(len(p))
	if d.last.of != e || end > int64(len(d.last.content)) {
		content, err := e.unpack(d.r, d.last.content[:0], d.layout.block())
		d.last = unpacked{e, content}
		if err != nil && end > int64(len(content)) {
			return err
		}
	}
	copy(p, d.last.content[within:])
	return nil
}

// unpack appends to buf what is in a block; of one that is damaged, what is in
// it before that.
func (e extent) unpack(r io.ReaderAt, buf []byte, block int64) ([]byte, error) {
	if block > maxBlock || e.length > maxBlock {
		return buf, fmt.Errorf("a compressed block of %d bytes is out of bounds", block)
	}
	stored := make([]byte, e.length)
	n, err := r.ReadAt(stored, e.at)
	if err != nil && !errors.Is(err, io.EOF) {
		return buf, err
	}
	in := bytes.NewReader(stored[:n]) // the last one need not fill its sectors
	var out io.Reader
	switch e.packed {
	case packedZlib:
		if out, err = zlib.NewReader(in); err != nil {
			return buf, err
		}
	case packedZstd:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxBlock))
		if err != nil {
			return buf, err
		}
		defer z.Close()
		out = z
	default:
		out = flate.NewReader(in)
	}
	buf = slices.Grow(buf, int(block))[:block]
	n, err = io.ReadFull(out, buf)
	return buf[:n], err
}

// tables reads the entries of a file's tables, and keeps the page that it
// read last: entries are mostly asked for in order.
type tables struct {
	r    io.ReaderAt
	page []byte
	at   int64
}

const pageSize = 64 << 10

func newTables(r io.ReaderAt) *tables { return &tables{r: r, at: -1} }

// entry returns n bytes (up to 8, and aligned to n) at an offset.
func (t *tables) entry(at int64, n int) ([]byte, error) {
	start := at &^ (pageSize - 1)
	if at < 0 {
		return nil, errors.New("a table lies before the beginning")
	}
	if t.at != start {
		if t.page == nil {
			t.page = make([]byte, pageSize)
		}
		got, err := t.r.ReadAt(t.page[:pageSize], start)
		if err != nil && !errors.Is(err, io.EOF) {
			t.at = -1
			return nil, err
		}
		t.page, t.at = t.page[:got], start
	}
	within := int(at - start)
	if within+n > len(t.page) {
		return nil, io.ErrUnexpectedEOF
	}
	return t.page[within : within+n], nil
}

func (t *tables) uint64(order binary.ByteOrder, at int64) (uint64, error) {
	b, err := t.entry(at, 8)
	if err != nil {
		return 0, err
	}
	return order.Uint64(b), nil
}

func (t *tables) uint32(order binary.ByteOrder, at int64) (uint32, error) {
	b, err := t.entry(at, 4)
	if err != nil {
		return 0, err
	}
	return order.Uint32(b), nil
}
