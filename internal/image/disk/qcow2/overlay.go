package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Overlay is an image that holds nothing yet but what is to differ from
// another file at its beginning.
type Overlay struct {
	// Size is that of the virtual disk, in bytes.
	Size int64
	// Backing is the other file, as seen from the overlay's directory, and
	// Format its format in QEMU's words.
	Backing, Format string
	// Head, if there is any, is the disk's first cluster; it is padded with
	// zeros to HeadSize.
	Head []byte
}

// HeadSize is how much of the disk's beginning an overlay can replace.
const HeadSize = 1 << clusterBits

const (
	clusterBits  = 16
	cluster      = 1 << clusterBits
	perL2        = cluster / 8 // clusters that one second table maps
	refcounts    = cluster / 2 // that one block of them holds, of 16 bits each
	extBacking   = 0xe2792aca  // "Backing file format name"
	copied       = 1 << 63     // the cluster's refcount is exactly one
	backingLimit = 1023
)

// Write writes the image. Its clusters are: the header, a table of refcounts,
// one block of them, the first table, and for a Head a second table and the
// Head itself.
func (o Overlay) Write(w io.Writer) error {
	if len(o.Backing) > backingLimit || len(o.Head) > HeadSize {
		return fmt.Errorf("writing an overlay: a name of %d bytes and a head of %d are too long", len(o.Backing), len(o.Head))
	}
	l1Entries := (o.Size + cluster*perL2 - 1) / (cluster * perL2)
	l1Clusters := (l1Entries*8 + cluster - 1) / cluster
	used := 3 + l1Clusters
	if o.Head != nil {
		used += 2
	}
	if o.Size <= 0 || used > refcounts {
		return fmt.Errorf("writing an overlay: a disk of %d bytes is out of bounds", o.Size)
	}
	image := make([]byte, used*cluster)
	o.header(image, l1Entries)
	be := binary.BigEndian
	be.PutUint64(image[1*cluster:], 2*cluster)
	for n := range used {
		be.PutUint16(image[2*cluster+2*n:], 1)
	}
	if o.Head != nil {
		l2 := (3 + l1Clusters) * cluster
		be.PutUint64(image[3*cluster:], uint64(l2)|copied)
		be.PutUint64(image[l2:], uint64(l2+cluster)|copied)
		copy(image[l2+cluster:], o.Head)
	}
	if _, err := w.Write(image); err != nil {
		return fmt.Errorf("writing an overlay: %w", err)
	}
	return nil
}

// header writes the header, version 3, the name of the backing file's format
// as its extension, and the backing file's name.
func (o Overlay) header(b []byte, l1Entries int64) {
	be := binary.BigEndian
	extension := headerV3
	padded := (len(o.Format) + 7) &^ 7
	name := extension + 8 + padded + 8 // behind the mark of the extensions' end
	putHeader(b, o.Size, 3*cluster, l1Entries)
	be.PutUint64(b[8:], uint64(name))
	be.PutUint32(b[16:], uint32(len(o.Backing)))
	be.PutUint32(b[extension:], extBacking)
	be.PutUint32(b[extension+4:], uint32(len(o.Format)))
	copy(b[extension+8:], o.Format)
	copy(b[name:], o.Backing)
}

// putHeader writes what all images written here have alike: version 3, a table
// of refcounts in the second cluster, no feature.
func putHeader(b []byte, size, l1, l1Entries int64) {
	be := binary.BigEndian
	copy(b, Magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], clusterBits)
	be.PutUint64(b[24:], uint64(size))
	be.PutUint32(b[36:], uint32(l1Entries))
	be.PutUint64(b[40:], uint64(l1))
	be.PutUint64(b[48:], 1*cluster) // the table of refcounts
	be.PutUint32(b[56:], 1)         // its clusters
	be.PutUint32(b[96:], 4)         // refcounts of 2^4 bits
	be.PutUint32(b[100:], headerV3)
}
