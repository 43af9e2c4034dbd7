package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zlib"

	"capstan/internal/image/disk/inorder"
)

// level is a fast one: a disk's content is mostly packed already, and the next
// one costs as much time again for a few percent.
const level = zlib.BestSpeed

// packer compresses the grains of a disk that is written from its beginning to
// its end, on all CPUs, and puts them in that order. Grains of zeros it leaves
// out.
type packer struct {
	size  int64
	end   int64 // of what was written
	now   *job  // the grain that is being filled
	queue inorder.Queue[job]
	err   error
}

// job is a grain on its way.
type job struct {
	n    int64 // -1: none yet
	in   [grain]byte
	out  bytes.Buffer
	zlib *zlib.Writer
}

func newPacker(size int64, put func(n int64, packed []byte) error) *packer {
	return &packer{size: size, now: &job{n: -1}, queue: inorder.Queue[job]{
		Work: (*job).pack,
		Put:  func(j *job) error { return put(j.n, j.out.Bytes()) },
	}}
}

func (p *packer) writeAt(b []byte, at int64) (int, error) {
	switch {
	case p.err != nil:
		return 0, p.err
	case at < p.end:
		return 0, fmt.Errorf("writing at %d, where the disk is written up to %d", at, p.end)
	case at > p.size || int64(len(b)) > p.size-at:
		return 0, errors.New("writing beyond the end of the disk")
	}
	done := 0
	for done < len(b) {
		if n := at / grain; n != p.now.n {
			if p.err = p.next(n); p.err != nil {
				return done, p.err
			}
		}
		k := copy(p.now.in[at%grain:], b[done:])
		done += k
		at += int64(k)
		p.end = at
	}
	return done, nil
}

// next sends the grain on its way that is being filled, and begins another.
func (p *packer) next(n int64) error {
	if !bytes.Equal(p.now.in[:], zeros[:]) {
		if err := p.queue.Add(p.now); err != nil {
			return err
		}
		p.now = p.queue.Free()
		clear(p.now.in[:])
	}
	p.now.n = n
	return nil
}

var zeros [grain]byte

// close puts what is left.
func (p *packer) close() error {
	if p.err == nil {
		p.err = p.next(-1)
	}
	if p.err == nil {
		p.err = p.queue.Close()
	}
	p.discard()
	return p.err
}

// discard waits for what is under way, and puts nothing any more.
func (p *packer) discard() { p.queue.Discard() }

// pack makes a compressed grain: its first sector on the disk, its length, and
// as much, in whole sectors. The disk's last grain is as long as the others, as
// VirtualBox wants it.
func (j *job) pack() error {
	const head = 12
	j.out.Reset()
	j.out.Write(make([]byte, head))
	if j.zlib == nil {
		var err error
		if j.zlib, err = zlib.NewWriterLevel(&j.out, level); err != nil {
			return err
		}
	} else {
		j.zlib.Reset(&j.out)
	}
	_, err := j.zlib.Write(j.in[:])
	if err = errors.Join(err, j.zlib.Close()); err != nil {
		return err
	}
	length := j.out.Len()
	j.out.Write(make([]byte, (sector-length%sector)%sector))
	b := j.out.Bytes()
	binary.LittleEndian.PutUint64(b, uint64(j.n*grain/sector))
	binary.LittleEndian.PutUint32(b[8:], uint32(length-head))
	return nil
}
