package compose

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"

	"capstan/internal/image/ext4"
)

// Volume is a disk for what applications write that outlives them: a file
// system with nothing in it, and no partitions. The guest grows the file system
// to the disk's size.
type Volume struct {
	Size int64 // in bytes, a multiple of 4096
}

// journal is of a file system that may become a large one: it does not grow.
const journal = 64 << 20

// Write writes the disk to w, as Disk's Write does.
func (v Volume) Write(w io.WriterAt) error {
	err := ascending(w, func(w io.WriterAt) error {
		return ext4.Format(w, ext4.Options{Size: v.Size, Label: "capstan-volume", JournalSize: journal})
	})
	if err != nil {
		return fmt.Errorf("writing the empty volume: %w", err)
	}
	return nil
}

// ID is, in hexadecimal digits, that of the bytes which Write writes.
func (v Volume) ID() (string, error) {
	h := sha256.New()
	if err := v.Write(digest{h}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// digest takes what is written together with where.
type digest struct{ io.Writer }

func (d digest) WriteAt(p []byte, at int64) (int, error) {
	if err := binary.Write(d.Writer, binary.BigEndian, []int64{at, int64(len(p))}); err != nil {
		return 0, err
	}
	return d.Write(p)
}
