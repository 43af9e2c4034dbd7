// Package qcow2 reads the header of qcow2 images, and writes whole images and
// overlays: images that hold what was changed of another file. The format is QEMU's,
// docs/interop/qcow2.txt; all its numbers are big-endian.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Magic begins every image.
const Magic = "QFI\xfb"

// Lengths of the header: of version 2, and of version 3 as it is read here,
// with the compression type.
const (
	headerV2   = 72
	headerV3   = 104
	headerRead = 112
)

// Incompatible features, by bit.
const (
	featureDirty       = 1 << 0 // refcounts are to be rebuilt, which reading does not need
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtendedL2  = 1 << 4
)

// Limits of QEMU's own.
const (
	minClusterBits, maxClusterBits = 9, 21
	maxL1Bytes                     = 32 << 20
)

// ErrTruncated is wrapped where an image ends too early.
var ErrTruncated = errors.New("it is truncated")

// Header is what an image says of itself.
type Header struct {
	Version     uint32
	ClusterBits uint32
	Size        int64 // of the virtual disk, in bytes
	L1Offset    int64
	L1Entries   int64
	Zstd        bool // compressed clusters are zstd, else raw deflate
}

// Cluster is the size of a cluster in bytes.
func (h Header) Cluster() int64 { return 1 << h.ClusterBits }

// ReadHeader reads and checks the header of an image of so many bytes. It
// refuses images that are not whole in the one file: a name of another file
// in an image that comes from outside is a way to read the host's files.
func ReadHeader(r io.ReaderAt, size int64) (Header, error) {
	var b [headerRead]byte
	n, err := r.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, fmt.Errorf("reading the header: %w", err)
	}
	if n < headerV2 || string(b[:4]) != Magic {
		return Header{}, fmt.Errorf("%w: it ends within its header", ErrTruncated)
	}
	be := binary.BigEndian
	h := Header{
		Version: be.Uint32(b[4:]), ClusterBits: be.Uint32(b[20:]), Size: int64(be.Uint64(b[24:])),
		L1Entries: int64(be.Uint32(b[36:])), L1Offset: int64(be.Uint64(b[40:])),
	}
	switch {
	case h.Version != 2 && h.Version != 3:
		return h, fmt.Errorf("it is of version %d, and 2 and 3 are known", h.Version)
	case be.Uint64(b[8:]) != 0 || be.Uint32(b[16:]) != 0:
		return h, errors.New("it depends on another file, its backing file")
	case be.Uint32(b[32:]) != 0:
		return h, errors.New("it is encrypted")
	}
	if h.Version == 3 {
		if n < headerV3 {
			return h, fmt.Errorf("%w: it ends within its header", ErrTruncated)
		}
		if err := h.features(be.Uint64(b[72:]), be.Uint32(b[100:]), b[104], n); err != nil {
			return h, err
		}
	}
	return h, h.check(size)
}

// features reads what only version 3 has.
func (h *Header) features(incompatible uint64, length uint32, compression byte, n int) error {
	switch {
	case incompatible&featureDataFile != 0:
		return errors.New("it keeps its data in another file")
	case incompatible&featureCorrupt != 0:
		return errors.New("it is marked as corrupt")
	case incompatible&featureExtendedL2 != 0:
		return errors.New("its clusters have parts (extended_l2), which are not read here")
	case incompatible&^(featureDirty|featureCompression) != 0:
		return fmt.Errorf("it needs features (%#x) that are not known", incompatible)
	}
	if incompatible&featureCompression != 0 {
		if length <= headerV3 || n < headerRead || compression > 1 {
			return errors.New("its compression is not known")
		}
		h.Zstd = compression == 1
	}
	return nil
}

func (h *Header) check(size int64) error {
	if h.ClusterBits < minClusterBits || h.ClusterBits > maxClusterBits {
		return fmt.Errorf("its clusters of 2^%d bytes are out of bounds", h.ClusterBits)
	}
	perL2 := h.Cluster() / 8 * h.Cluster() // bytes of the disk
	switch {
	case h.Size <= 0 || h.Size%512 != 0:
		return fmt.Errorf("its virtual size, %d, is no number of sectors", h.Size)
	case h.L1Entries*8 > maxL1Bytes || (h.Size-1)/perL2 >= h.L1Entries:
		return fmt.Errorf("its first table of %d entries does not fit its virtual size", h.L1Entries)
	case h.L1Offset <= 0 || h.L1Offset%h.Cluster() != 0 || h.L1Offset > size-h.L1Entries*8:
		return fmt.Errorf("%w: its first table lies beyond its end", ErrTruncated)
	}
	return nil
}
