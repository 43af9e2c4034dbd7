package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// pieceSize is how much of a file is read at once, and the smallest chunk:
// shorter runs of zeros are not worth a map that slows reading down.
const (
	pieceSize = 64 << 10
	pieceBits = 4 // log2(pieceSize / blockSize)
)

// Bounds on a map of chunks: chunks grow with the file beyond 16 GiB.
const (
	maxChunks    = 1 << 18
	maxChunkBits = 31
)

// zeroPiece is never written to.
var zeroPiece [pieceSize]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeroPiece[:len(b)]) }

// stored says how a file's data lies in the image.
type stored struct {
	layout uint16
	union  uint32
	behind []byte // goes behind the inode's attributes
	extent extent
}

// dataWriter puts one file's data into a run of blocks.
type dataWriter struct {
	w      *Writer
	r      io.Reader
	extent extent
	used   int64    // bytes of the run that are written
	bits   int      // log2(size of a chunk / blockSize)
	chunks []uint32 // nil as long as there is no hole
	inline int64    // bytes at the end that go behind the inode
}

// writeData copies size bytes, for an inode that bodyLen bytes of attributes
// follow.
func (w *Writer) writeData(r io.Reader, size, bodyLen int64) (*stored, error) {
	if size == 0 {
		return &stored{layout: layoutPlain}, nil
	}
	if r == nil {
		r = strings.NewReader("")
	}
	d := dataWriter{w: w, r: r, bits: pieceBits}
	for (size-1)>>(blockBits+d.bits) >= maxChunks {
		d.bits++
	}
	if d.bits > maxChunkBits {
		return nil, &LimitError{"bytes of a file", maxChunks << (blockBits + maxChunkBits)}
	}
	if tail := size % blockSize; inodeSize+bodyLen+tail <= blockSize {
		d.inline = tail
	}
	count := blocksFor(size)
	if size < pieceSize { // has no holes
		count = blocksFor(size - d.inline)
	}
	start, err := w.reserve(count)
	if err != nil {
		return nil, err
	}
	d.extent = start
	err = d.copy(size)
	if err != nil {
		d.used = 0
	}
	w.space.shrink(d.extent, blocksFor(d.used))
	d.extent.count = uint32(blocksFor(d.used))
	if err != nil {
		return nil, err
	}
	return d.result(), nil
}

// reserve gives a run of blocks; more than there could ever be in an image is
// cut down, because most of it may be holes.
func (w *Writer) reserve(count int64) (extent, error) {
	count = min(count, maxBlocks-int64(w.space.next))
	start, err := w.space.blocks(count)
	return extent{start, uint32(count)}, err
}

// result tells what copy has done.
func (d *dataWriter) result() *stored {
	s := &stored{extent: d.extent}
	switch {
	case d.chunks != nil:
		d.w.chunked = true
		s.layout, s.union = layoutChunk, uint32(d.bits)
		s.behind = make([]byte, 0, 4*len(d.chunks))
		for _, addr := range d.chunks {
			s.behind = binary.LittleEndian.AppendUint32(s.behind, addr)
		}
	case d.inline > 0:
		s.layout, s.union, s.behind = layoutInline, d.extent.start, d.w.tail
	default:
		s.layout, s.union = layoutPlain, d.extent.start
	}
	return s
}

// copy copies the file, chunk by chunk.
func (d *dataWriter) copy(size int64) error {
	chunk := int64(blockSize) << d.bits
	for done := int64(0); done < size; done += chunk {
		before := d.used
		n := min(chunk, size-done)
		hole, err := d.copyChunk(n, done+n == size)
		if err != nil {
			return err
		}
		if hole && d.chunks == nil {
			d.chunks = make([]uint32, 0, (size+chunk-1)/chunk)
			for at := int64(0); at < done; at += chunk {
				d.chunks = append(d.chunks, d.extent.start+uint32(at>>blockBits))
			}
		}
		switch {
		case hole:
			d.chunks = append(d.chunks, nullAddr)
		case d.chunks != nil:
			d.chunks = append(d.chunks, d.extent.start+uint32(before>>blockBits))
		}
	}
	// The rest of the last block.
	if pad := roundUp(d.used, blockSize) - d.used; pad > 0 {
		return d.write(zeroPiece[:pad])
	}
	return nil
}

// copyChunk copies a chunk of n bytes unless it is a hole. A chunk that is
// shorter than a piece counts as one only where it saves a block.
func (d *dataWriter) copyChunk(n int64, last bool) (hole bool, err error) {
	zeros := int64(0) // at the chunk's start, not written
	for left := n; left > 0; {
		size := min(left, pieceSize)
		left -= size
		piece, direct, err := d.read(int(size))
		if err != nil {
			return false, err
		}
		if zeros+size+left == n && (size == pieceSize || d.chunks != nil) && isZero(piece) {
			zeros += size
			continue
		}
		if zeros > 0 {
			if direct {
				piece, direct = d.w.piece[:copy(d.w.piece, piece)], false
			}
			for ; zeros > 0; zeros -= min(zeros, pieceSize) {
				if err := d.write(zeroPiece[:min(zeros, pieceSize)]); err != nil {
					return false, err
				}
			}
		}
		if last && left == 0 && d.chunks == nil && d.inline > 0 {
			cut := len(piece) - int(d.inline)
			d.w.tail = append(d.w.tail[:0], piece[cut:]...)
			piece = piece[:cut]
		}
		if direct {
			if err := d.claim(len(piece)); err != nil {
				return false, err
			}
			d.w.out.commit(len(piece))
			continue
		}
		if err := d.write(piece); err != nil {
			return false, err
		}
	}
	return zeros == n, nil
}

// read reads n bytes, if possible to the place where they will stand in the
// window (then direct is true, and committing them is all that is left to do).
func (d *dataWriter) read(n int) (piece []byte, direct bool, err error) {
	piece, err = d.w.out.tail(d.offset(), n)
	if err != nil {
		return nil, false, d.w.fatal(err)
	}
	if direct = piece != nil; !direct {
		piece = d.w.piece[:n]
	}
	if _, err := io.ReadFull(d.r, piece); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, fmt.Errorf("reading the content: %w", err)
	}
	return piece, direct, nil
}

// offset is where the next byte goes in the image.
func (d *dataWriter) offset() int64 {
	return int64(d.extent.start)<<blockBits + d.used
}

// claim counts n bytes of the run as used.
func (d *dataWriter) claim(n int) error {
	if d.used += int64(n); d.used > int64(d.extent.count)<<blockBits {
		return &LimitError{"blocks of the image", maxBlocks}
	}
	return nil
}

// write puts p behind what is written already.
func (d *dataWriter) write(p []byte) error {
	off := d.offset()
	if err := d.claim(len(p)); err != nil {
		return err
	}
	return d.w.fatal(d.w.out.write(p, off))
}
