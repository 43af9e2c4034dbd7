package opaque

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// packPiece is the size of the pieces in which a raw disk is looked at.
const packPiece = 1 << 20

// packer packs a raw disk as zstd frames, one after the other (RFC 8878, 3.1).
// Most of a disk may be holes: for a piece of zeros there is a frame that was
// packed beforehand. Frames have no checksums, because the layer has a digest.
type packer struct {
	w     io.Writer
	frame *zstd.Encoder
	open  bool // the frame is begun
	zeros []byte
	hole  []byte // zeros, as a frame
}

func newPacker(w io.Writer) (*packer, error) {
	frame, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, packPiece)
	return &packer{w: w, frame: frame, zeros: zeros, hole: frame.EncodeAll(zeros, nil)}, nil
}

func (p *packer) Write(b []byte) (int, error) {
	if bytes.Equal(b, p.zeros) {
		if err := p.Close(); err != nil {
			return 0, err
		}
		if _, err := p.w.Write(p.hole); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	if !p.open {
		p.frame.Reset(p.w)
		p.open = true
	}
	return p.frame.Write(b)
}

// Close ends the frame that is begun.
func (p *packer) Close() error {
	if !p.open {
		return nil
	}
	p.open = false
	return p.frame.Close()
}

// copyPieces copies r to w in whole pieces, but for the last one.
func copyPieces(w io.Writer, r io.Reader) (size int64, err error) {
	buf := make([]byte, packPiece)
	for {
		n, err := fill(r, buf)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return size, werr
		}
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}
