package disktest

import (
	"fmt"
	"io"
)

// Forward refuses to write before the end of what was written already.
type Forward struct {
	W  io.WriterAt
	at int64
}

func (f *Forward) WriteAt(p []byte, at int64) (int, error) {
	if at < f.at {
		return 0, fmt.Errorf("writing %d bytes at %d, and %d are written already", len(p), at, f.at)
	}
	f.at = at + int64(len(p))
	return f.W.WriteAt(p, at)
}
