package image

import (
	"context"
	"io"
)

// What is read ahead, in bytes and buffers: 16 MiB. Two layers are read at a
// time.
const (
	aheadSize  = 128 << 10
	aheadCount = 128
)

// ahead reads from a reader in a goroutine of its own, so that making the
// bytes and using them take two processors.
type ahead struct {
	full, free chan []byte
	quit       chan struct{}
	made       int    // buffers
	used       []byte // what next gave last
	err        error  // of the reader; set before full is closed
	closing    error  // of closing it; as well
}

// readAhead starts reading what open opens. The caller must call close.
func readAhead(open func() (io.ReadCloser, error)) *ahead {
	a := &ahead{
		full: make(chan []byte, aheadCount),
		free: make(chan []byte, aheadCount),
		quit: make(chan struct{}),
	}
	go a.fill(open)
	return a
}

func (a *ahead) fill(open func() (io.ReadCloser, error)) {
	defer close(a.full)
	var r io.ReadCloser
	if r, a.err = open(); a.err != nil {
		return
	}
	defer func() { a.closing = r.Close() }()
	for a.err == nil {
		buf := a.buffer()
		if buf == nil {
			return
		}
		n := 0
		for n < len(buf) && a.err == nil {
			var more int
			more, a.err = r.Read(buf[n:])
			n += more
		}
		a.full <- buf[:n] // has room for all there are
	}
}

// buffer gives memory to fill, or nil when close was called. There is as much
// of it as it takes not to wait.
func (a *ahead) buffer() []byte {
	select {
	case <-a.quit:
		return nil
	case buf := <-a.free:
		return buf
	default:
	}
	if a.made < aheadCount {
		a.made++
		return make([]byte, aheadSize)
	}
	select {
	case <-a.quit:
		return nil
	case buf := <-a.free:
		return buf
	}
}

// next gives what comes next, which is good until the next call.
func (a *ahead) next(ctx context.Context) ([]byte, error) {
	for {
		if a.used != nil {
			a.free <- a.used[:aheadSize]
			a.used = nil
		}
		select {
		case buf, ok := <-a.full:
			if !ok {
				return nil, a.err
			}
			if a.used = buf; len(buf) > 0 {
				return buf, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// close ends reading, waits for the reader to return, and closes it.
func (a *ahead) close() error {
	close(a.quit)
	for range a.full {
	}
	return a.closing
}
