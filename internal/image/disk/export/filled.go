package export

import (
	"context"
	"fmt"
	"io"
)

// filled makes a stream of writes at ascending offsets: it writes the zeros
// between them.
type filled struct {
	ctx context.Context // may end while there is nothing but zeros to write
	w   io.Writer
	at  int64
}

func (f *filled) WriteAt(p []byte, at int64) (int, error) {
	if at < f.at {
		return 0, fmt.Errorf("writing at %d, where the stream is at %d", at, f.at)
	}
	if err := f.fill(at); err != nil {
		return 0, err
	}
	n, err := f.w.Write(p)
	f.at += int64(n)
	return n, err
}

var zeros [1 << 20]byte

// fill writes zeros up to an offset.
func (f *filled) fill(to int64) error {
	for f.at < to {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		n, err := f.w.Write(zeros[:min(to-f.at, int64(len(zeros)))])
		f.at += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}
