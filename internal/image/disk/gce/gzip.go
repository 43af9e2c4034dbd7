package gce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"

	"capstan/internal/image/disk/inorder"
)

// partSize is how much is compressed at once. It takes nothing from what was
// before it, which costs less than a percent.
const partSize = 512 << 10

// Around a deflated stream (RFC 1952, 2.3; RFC 1951, 3.2.4): a header without
// a time, which says that speed was wanted, and an empty block that is the last.
var (
	gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff}
	lastBlock  = []byte{1, 0, 0, 0xff, 0xff}
)

// packer writes a stream by gzip, as one member, which is compressed on all
// CPUs. The same stream becomes the same bytes, whatever the CPUs and the
// lengths of the writes.
type packer struct {
	w     io.Writer
	begun bool
	size  uint32
	sum   uint32
	now   *part // that is being filled
	queue inorder.Queue[part]
	err   error
}

// part is a part of a stream on its way.
type part struct {
	in  []byte
	out bytes.Buffer
	// flate writes to out, which ends with a whole byte.
	flate *flate.Writer
}

func newPacker(w io.Writer) *packer {
	p := &packer{w: w}
	p.queue = inorder.Queue[part]{Work: (*part).pack, Put: func(one *part) error { return p.put(one.out.Bytes()) }}
	p.now = p.queue.Free()
	return p
}

// put writes what is compressed, after the header.
func (p *packer) put(b []byte) error {
	if !p.begun {
		p.begun = true
		if _, err := p.w.Write(gzipHeader); err != nil {
			return err
		}
	}
	_, err := p.w.Write(b)
	return err
}

func (p *packer) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	p.sum, p.size = crc32.Update(p.sum, crc32.IEEETable, b), p.size+uint32(len(b))
	for rest := b; len(rest) > 0; {
		n := min(len(rest), partSize-len(p.now.in))
		p.now.in, rest = append(p.now.in, rest[:n]...), rest[n:]
		if len(p.now.in) < partSize {
			break
		}
		if p.err = p.next(); p.err != nil {
			return len(b) - len(rest), p.err
		}
	}
	return len(b), nil
}

// next sends a part on its way, and begins another.
func (p *packer) next() error {
	if err := p.queue.Add(p.now); err != nil {
		return err
	}
	p.now = p.queue.Free()
	p.now.in = p.now.in[:0]
	return nil
}

// Close writes what is held back, and ends the member.
func (p *packer) Close() error {
	if p.err == nil && len(p.now.in) > 0 {
		p.err = p.next()
	}
	if p.err == nil {
		p.err = p.queue.Close()
	}
	p.discard()
	if p.err != nil {
		return p.err
	}
	end := binary.LittleEndian.AppendUint32(bytes.Clone(lastBlock), p.sum)
	return p.put(binary.LittleEndian.AppendUint32(end, p.size))
}

// discard ends what is under way, instead of Close.
func (p *packer) discard() { p.queue.Discard() }

// pack compresses a part, up to a whole byte.
func (one *part) pack() error {
	one.out.Reset()
	if one.flate == nil {
		var err error
		if one.flate, err = flate.NewWriter(&one.out, flate.BestSpeed); err != nil {
			return err
		}
	} else {
		one.flate.Reset(&one.out)
	}
	_, err := one.flate.Write(one.in)
	return errors.Join(err, one.flate.Flush())
}
