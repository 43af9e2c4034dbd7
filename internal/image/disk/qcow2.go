package disk

import (
	"encoding/binary"
	"errors"
	"io"

	"capstan/internal/image/disk/qcow2"
)

const qcow2Magic = qcow2.Magic

// clusters is the layout of a qcow2 image.
type clusters struct {
	qcow2.Header
	l1, t *tables // apart, as each keeps its last page
	file  int64   // size of the file
}

func openQCOW2(r io.ReaderAt, size int64) (layout, int64, error) {
	h, err := qcow2.ReadHeader(r, size)
	if err != nil {
		hint := convert
		if errors.Is(err, qcow2.ErrTruncated) {
			hint = again
		}
		return nil, 0, refuse(QCOW2, hint, "%v", err)
	}
	return &clusters{h, newTables(r), newTables(r), size}, h.Size, nil
}

func (c *clusters) block() int64 { return c.Cluster() }

func (c *clusters) locate(n int64) (extent, error) {
	const offsetMask = 0x00fffffffffffe00
	perL2 := c.Cluster() / 8
	l1, err := c.l1.uint64(binary.BigEndian, c.L1Offset+n/perL2*8)
	if err != nil {
		return extent{}, err
	}
	l2 := int64(l1 & offsetMask)
	if l2 == 0 {
		return extent{zeros: perL2 - n%perL2}, nil
	}
	if l2%c.Cluster() != 0 {
		return extent{}, errors.New("a table is not at the beginning of a cluster")
	}
	entry, err := c.t.uint64(binary.BigEndian, l2+n%perL2*8)
	if err != nil {
		return extent{}, err
	}
	if entry&(1<<62) != 0 {
		return c.compressed(entry), nil
	}
	if entry&1 != 0 || entry&offsetMask == 0 {
		return extent{}, nil
	}
	return extent{at: int64(entry & offsetMask), length: c.Cluster()}, nil
}

// compressed reads the descriptor of a compressed cluster: its offset in the
// lower bits, then how many sectors beyond the first it has. The last one need
// not fill its last sector.
func (c *clusters) compressed(entry uint64) extent {
	shift := 62 - (c.ClusterBits - 8)
	at := int64(entry & (1<<shift - 1))
	sectors := int64(entry&(1<<62-1)>>shift) + 1
	e := extent{at: at, length: sectors*sector - at%sector, packed: packedFlate}
	if over := e.at + e.length - c.file; over > 0 && over < sector {
		e.length -= over
	}
	if c.Zstd {
		e.packed = packedZstd
	}
	return e
}
