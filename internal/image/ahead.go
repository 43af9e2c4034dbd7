package image

import (
	"context"
	"io"
)

// What is read ahead: small enough to stay in a processor's cache.
const (
	aheadSize  = 128 << 10
	aheadCount = 8
)

// ahead reads from a reader in a goroutine of its own, so that making the
// bytes and using them take two processors.
type ahead struct {
	full, free chan []byte
	quit       chan struct{}
	used       []byte // what next gave last
	err        error  // of the reader; set before full is closed
}

// readAhead starts reading r. The caller must call close.
func readAhead(r io.Reader) *ahead {
	a := &ahead{
		full: make(chan []byte, aheadCount),
		free: make(chan []byte, aheadCount),
		quit: make(chan struct{}),
	}
	for range aheadCount {
		a.free <- make([]byte, aheadSize)
	}
	go a.fill(r)
	return a
}

func (a *ahead) fill(r io.Reader) {
	defer close(a.full)
	for a.err == nil {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.quit:
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

// close ends reading and waits for the reader to return.
func (a *ahead) close() {
	close(a.quit)
	for range a.full {
	}
}
