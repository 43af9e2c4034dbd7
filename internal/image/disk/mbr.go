package disk

import (
	"encoding/binary"
	"fmt"
)

// Partition is an entry of a master boot record's table. One of type 0 is
// none.
type Partition struct {
	Type        byte
	Start, Size int64 // in bytes
}

// End is where it ends.
func (p Partition) End() int64 { return p.Start + p.Size }

// mbrPartition is the size of an entry; there are four.
const mbrPartition = 16

// Partitions are those in a master boot record: the first sector of a disk.
func Partitions(mbr []byte) (list [4]Partition) {
	for n := range list {
		e := mbr[mbrPartitions+mbrPartition*n:]
		list[n] = Partition{
			Type:  e[4],
			Start: int64(binary.LittleEndian.Uint32(e[8:])) * sector,
			Size:  int64(binary.LittleEndian.Uint32(e[12:])) * sector,
		}
	}
	return list
}

// SetPartition puts a partition, of whole sectors, into a master boot record.
// The first is number 0. The table has sectors' numbers twice: OSv takes the
// larger ones, but no partition whose cylinder, head and sector are 0
// (fs/devfs/device.cc, read_partition_table).
func SetPartition(mbr []byte, n int, p Partition) error {
	const most = 1 << 32 * sector
	if p.Start%sector != 0 || p.Size%sector != 0 {
		return fmt.Errorf("a partition at byte %d, of %d bytes, is not one of whole sectors", p.Start, p.Size)
	}
	if p.Start >= most || p.Size >= most {
		return fmt.Errorf("a partition at byte %d, of %d bytes, is beyond the 2 TiB that a partition table can tell of", p.Start, p.Size)
	}
	e := mbr[mbrPartitions+mbrPartition*n:][:mbrPartition]
	clear(e)
	e[4] = p.Type
	putCHS(e[1:], p.Start/sector)
	putCHS(e[5:], max(p.End()/sector-1, 0))
	binary.LittleEndian.PutUint32(e[8:], uint32(p.Start/sector))
	binary.LittleEndian.PutUint32(e[12:], uint32(p.Size/sector))
	return nil
}

// putCHS writes a sector's number as cylinder, head and sector of the usual
// geometry, or as the last that there are.
func putCHS(b []byte, n int64) {
	const heads, sectors = 255, 63
	c, h, s := n/sectors/heads, n/sectors%heads, n%sectors+1
	if c > 1023 {
		c, h, s = 1023, heads-1, sectors
	}
	b[0], b[1], b[2] = byte(h), byte(s|c>>8<<6), byte(c)
}
