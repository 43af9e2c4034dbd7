package erofs

import (
	"fmt"
	"io"
)

// windowSize is how many bytes are gathered before they are written. It is
// much larger than the distance between a file's data and its inode, so that
// few inodes cost a write of their own.
const windowSize = 1 << 20

// window writes an image that grows almost sequentially. It keeps the last
// part in memory: [base, base+len(buf)). All before base+len(buf) has been
// written or is in buf; nothing behind it has ever been written. What is
// skipped is filled with zeros.
type window struct {
	w    io.WriterAt
	base int64
	buf  []byte // its capacity is windowSize
}

func newWindow(w io.WriterAt) window {
	return window{w: w, buf: make([]byte, 0, windowSize)}
}

func (o *window) end() int64 { return o.base + int64(len(o.buf)) }

func (o *window) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	if err := o.writeAt(o.buf, o.base); err != nil {
		return err
	}
	o.base += int64(len(o.buf))
	o.buf = o.buf[:0]
	return nil
}

func (o *window) writeAt(p []byte, off int64) error {
	if _, err := o.w.WriteAt(p, off); err != nil {
		return fmt.Errorf("writing %d bytes of the image at %d: %w", len(p), off, err)
	}
	return nil
}

// write puts p at off, which may lie anywhere.
func (o *window) write(p []byte, off int64) error {
	if off < o.base {
		n := min(int64(len(p)), o.base-off)
		if err := o.writeAt(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	if err := o.fill(off); err != nil {
		return err
	}
	for len(p) > 0 {
		if off-o.base == windowSize {
			if err := o.flush(); err != nil {
				return err
			}
		}
		at := int(off - o.base)
		n := min(len(p), windowSize-at)
		if at+n > len(o.buf) {
			o.buf = o.buf[:at+n]
		}
		copy(o.buf[at:], p[:n])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// fill makes the window reach to off at least, with zeros.
func (o *window) fill(off int64) error {
	for o.end() < off {
		if len(o.buf) == windowSize {
			if err := o.flush(); err != nil {
				return err
			}
		}
		old := len(o.buf)
		n := int(min(off-o.end(), int64(windowSize-old)))
		o.buf = o.buf[:old+n]
		clear(o.buf[old:])
	}
	return nil
}

// tail gives n bytes of memory that stand for [off, off+n), to be filled and
// then kept by commit; n is at most windowSize. Until then they count as never
// written. It gives nil where off has been written before.
func (o *window) tail(off int64, n int) ([]byte, error) {
	if off < o.end() {
		return nil, nil
	}
	if err := o.fill(off); err != nil {
		return nil, err
	}
	if windowSize-len(o.buf) < n {
		if err := o.flush(); err != nil {
			return nil, err
		}
	}
	return o.buf[len(o.buf) : len(o.buf)+n], nil
}

// commit keeps the first n bytes of what tail gave last.
func (o *window) commit(n int) {
	o.buf = o.buf[:len(o.buf)+n]
}
