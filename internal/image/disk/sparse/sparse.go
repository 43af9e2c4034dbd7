// Package sparse is what the formats have in common that keep a disk in blocks
// which take space once something is written to them.
package sparse

import (
	"errors"
	"io"
)

// Writer writes to a disk of Size bytes that lies in W in blocks.
type Writer struct {
	W           io.WriterAt
	Size, Block int64
	// Place returns where block n lies in W, and makes place for it where it
	// has none.
	Place func(n int64) (int64, error)

	end int64 // of what was written to W
}

// WriteAt writes to the disk; blocks that lie one behind the other are written
// at once.
func (w *Writer) WriteAt(p []byte, at int64) (int, error) {
	if at < 0 || at > w.Size || int64(len(p)) > w.Size-at {
		return 0, errors.New("writing beyond the end of the disk")
	}
	done := 0
	for done < len(p) {
		to, n, err := w.run(at, int64(len(p)-done))
		if err != nil {
			return done, err
		}
		k, err := w.W.WriteAt(p[done:done+int(n)], to)
		done += k
		at += int64(k)
		if err != nil {
			return done, err
		}
		w.end = max(w.end, to+n)
	}
	return done, nil
}

// run returns where the disk's byte at lies, and how many of the n from it on
// lie behind it.
func (w *Writer) run(at, n int64) (to, length int64, err error) {
	if to, err = w.Place(at / w.Block); err != nil {
		return 0, 0, err
	}
	within := at % w.Block
	to, length = to+within, w.Block-within
	for length < n {
		next, err := w.Place((at + length) / w.Block)
		if err != nil {
			return 0, 0, err
		}
		if next != to+length {
			break
		}
		length += w.Block
	}
	return to, min(length, n), nil
}

// Fill makes W at least end bytes long: of its last block, which ends there,
// only a part may have been written.
func (w *Writer) Fill(end int64) error {
	if w.end >= end {
		return nil
	}
	_, err := w.W.WriteAt([]byte{0}, end-1)
	return err
}
