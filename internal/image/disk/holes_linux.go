package disk

import (
	"errors"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// nextData is where a file has bytes next, at or behind an offset: between them
// is a hole, which reads as zeros.
func nextData(r io.ReaderAt, at int64) int64 {
	f, ok := r.(*os.File)
	if !ok {
		return at
	}
	next, err := f.Seek(at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return math.MaxInt64 // a hole up to its end
	case err != nil:
		return at // its file system does not tell
	}
	return next
}
