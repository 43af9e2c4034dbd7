package compose

import (
	"bytes"
	"cmp"
	"io"
	"slices"
)

// ascending makes what write writes in the order of its offsets. It is held in
// memory until then.
func ascending(w io.WriterAt, write func(io.WriterAt) error) error {
	var held pieces
	if err := write(&held); err != nil {
		return err
	}
	slices.SortFunc(held, func(a, b piece) int { return cmp.Compare(a.at, b.at) })
	for _, p := range held {
		if _, err := w.WriteAt(p.content, p.at); err != nil {
			return err
		}
	}
	return nil
}

type piece struct {
	at      int64
	content []byte
}

// pieces are what was written, in that order. None overlaps another.
type pieces []piece

func (p *pieces) WriteAt(b []byte, at int64) (int, error) {
	*p = append(*p, piece{at, bytes.Clone(b)})
	return len(b), nil
}
