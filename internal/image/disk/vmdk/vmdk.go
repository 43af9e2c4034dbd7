// Package vmdk writes disks in VMware's "Virtual Disk Format 5.0": hosted
// sparse extents that hold their descriptor, to run from (monolithicSparse) and
// to send (streamOptimized). All its numbers are little-endian, and most count
// sectors.
package vmdk

import (
	"encoding/binary"
	"fmt"
	"strings"
)

const (
	sector   = 512
	grain    = 64 << 10
	perTable = 512 // grains that one table maps
	gtSize   = perTable * 4

	descriptorAt   = sector
	descriptorSize = 20 * sector
	tablesAt       = descriptorAt + descriptorSize

	flagNewline    = 1 << 0 // the header's line ends are as they were written
	flagRedundant  = 1 << 1 // there is a second directory
	flagCompressed = 1 << 16
	flagMarkers    = 1 << 17
	deflate        = 1

	maxSize = 64 << 40
)

// Options say what an image notes of itself.
type Options struct {
	// Name is the file's; "" is disk.vmdk.
	Name string
	// ID is the disk's, by which VirtualBox knows it.
	ID [16]byte
}

// header is an extent's header; its offsets and sizes are in bytes.
type header struct {
	version, flags       uint32
	capacity             int64
	redundant, directory int64
	overhead             int64
	compression          uint16
}

// atEnd stands for the offset of a directory that the footer has.
const atEnd = -sector

func (h header) bytes() []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, "KDMV")
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], uint64(h.capacity/sector))
	le.PutUint64(b[20:], grain/sector)
	le.PutUint64(b[28:], descriptorAt/sector)
	le.PutUint64(b[36:], descriptorSize/sector)
	le.PutUint32(b[44:], perTable)
	le.PutUint64(b[48:], uint64(h.redundant/sector))
	le.PutUint64(b[56:], uint64(h.directory/sector))
	le.PutUint64(b[64:], uint64(h.overhead/sector))
	copy(b[73:], "\n \r\n")
	le.PutUint16(b[77:], h.compression)
	return b
}

// descriptor describes an image. Its IDs are made of the options', so that the
// same disk has the same ones.
func (o Options) descriptor(kind string, size int64) []byte {
	cid := binary.LittleEndian.Uint32(o.ID[:]) &^ (1 << 31) // all ones stand for none
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' {
			return '_'
		}
		return r
	}, o.Name)
	if name == "" || len(name) > 255 {
		name = "disk.vmdk"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08x\nparentCID=ffffffff\ncreateType=%q\n\n", cid, kind)
	fmt.Fprintf(&b, "# Extent description\nRW %d SPARSE \"%s\"\n\n# The Disk Data Base\n#DDB\n\n", size/sector, name)
	const heads, perTrack = 255, 63
	for _, entry := range []struct{ key, value string }{
		{"adapterType", "lsilogic"},
		{"geometry.cylinders", fmt.Sprint(min((size/sector+heads*perTrack-1)/(heads*perTrack), 65535))},
		{"geometry.heads", fmt.Sprint(heads)},
		{"geometry.sectors", fmt.Sprint(perTrack)},
		{"longContentID", fmt.Sprintf("%x%08x", o.ID[:12], cid)},
		{"toolsVersion", "2147483647"}, // which VMware calls unmanaged
		{"uuid.image", uuid(o.ID)},
		{"uuid.modification", uuid(o.ID)},
		{"uuid.parent", uuid([16]byte{})},
		{"uuid.parentmodification", uuid([16]byte{})},
		{"virtualHWVersion", "4"},
	} {
		fmt.Fprintf(&b, "ddb.%s = %q\n", entry.key, entry.value)
	}
	text := make([]byte, descriptorSize)
	copy(text, b.String())
	return text
}

func uuid(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func check(size int64) error {
	if size <= 0 || size%sector != 0 || size > maxSize {
		return fmt.Errorf("writing a VMDK: a disk of %d bytes is out of bounds", size)
	}
	return nil
}

// tables are where the tables lie of an image: a directory, which says where
// they are, and the tables one behind the other.
type tables struct{ at, count int64 }

// newTables places those of a disk.
func newTables(at, size int64) tables {
	return tables{at, (size + grain*perTable - 1) / (grain * perTable)}
}

func (t tables) first() int64 { return t.at + (t.count*4+sector-1)/sector*sector }
func (t tables) end() int64   { return t.first() + t.count*gtSize }

// directory is the directory.
func (t tables) directory() []byte {
	b := make([]byte, t.first()-t.at)
	for n := range t.count {
		binary.LittleEndian.PutUint32(b[4*n:], uint32((t.first()+n*gtSize)/sector))
	}
	return b
}

// grains are where a disk's grains lie, in sectors, by their tables; there is
// none for grains of which none was written.
type grains map[int64]*[perTable]uint32

func (g grains) entry(n int64) *uint32 {
	table := g[n/perTable]
	if table == nil {
		table = new([perTable]uint32)
		g[n/perTable] = table
	}
	return &table[n%perTable]
}

func tableBytes(table *[perTable]uint32) []byte {
	b := make([]byte, gtSize)
	for n, at := range table {
		binary.LittleEndian.PutUint32(b[4*n:], at)
	}
	return b
}

// place is the entry of a grain at an offset of the file, which is too large
// where it goes beyond what an entry can say.
func place(at int64) (uint32, error) {
	if at/sector > 1<<32-1 {
		return 0, fmt.Errorf("the image becomes larger than %d TiB", int64(sector<<32)>>40)
	}
	return uint32(at / sector), nil
}
