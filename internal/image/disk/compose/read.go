package compose

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"capstan/guest/api"
	"capstan/internal/image/disk"
	"capstan/internal/image/erofs"
)

// maxConfig bounds the config's document, as the guest does.
const maxConfig = 4 << 20

// Contents is what a disk of ours says of itself. What of it cannot be read is
// left out, with why in Odd.
type Contents struct {
	Config api.Config
	Kernel string // the guest's, "6.12.117-capstan"
	Root   int64  // the root's size in bytes
	// Data is the size of the partition for the application's data, Free how
	// much of it is not used.
	Data, Free int64
	Odd        []error
}

// ErrOther is a disk that is none of ours.
var ErrOther = errors.New("no disk that capstan wrote")

// Read looks into a disk with these partitions. It trusts nothing that it
// reads, and reads little.
func Read(r io.ReaderAt, partitions []disk.Entry) (*Contents, error) {
	part := func(name string) *io.SectionReader {
		i := slices.IndexFunc(partitions, func(e disk.Entry) bool { return e.Name == name })
		if i < 0 {
			return nil
		}
		return io.NewSectionReader(r, partitions[i].Start, partitions[i].Size)
	}
	config := part(api.ConfigPartition)
	if config == nil {
		return nil, ErrOther
	}
	c := &Contents{}
	for _, step := range []struct {
		what, name string
		read       func(*io.SectionReader) error
	}{
		{"instance config", api.ConfigPartition, c.readConfig},
		{"guest", espPartition, c.readKernel},
		{"root", rootPartition, c.readRoot},
		{"data partition", dataPartition, c.readData},
	} {
		p := part(step.name)
		err := errors.New("it is missing")
		if p != nil {
			err = step.read(p)
		}
		if err != nil {
			c.Odd = append(c.Odd, fmt.Errorf("reading the disk's %s: %w", step.what, err))
		}
	}
	return c, nil
}

func (c *Contents) readConfig(p *io.SectionReader) error {
	doc, err := io.ReadAll(io.LimitReader(p, maxConfig+1))
	if err != nil {
		return err
	}
	if doc = bytes.TrimRight(doc, "\x00"); len(doc) > maxConfig {
		return fmt.Errorf("it is larger than %d MiB", maxConfig>>20)
	}
	if err := json.Unmarshal(doc, &c.Config); err != nil {
		c.Config = api.Config{}
		return err
	}
	if v := c.Config.Version; v != api.Version {
		return fmt.Errorf("it has version %d, and %d is known", v, api.Version)
	}
	return nil
}

// Offsets in a kernel's setup header (Documentation/arch/x86/boot.rst): its
// mark, and where, less 0x200, its version is.
const (
	kernelMark     = 0x202
	kernelVersion  = 0x20e
	versionBase    = 0x200
	maxVersionText = 256
)

// readKernel reads the version of the kernel that is where this package puts
// one into an EFI system partition.
func (c *Contents) readKernel(p *io.SectionReader) error {
	const at = (espData + clusterKernel - 2) * sector
	var head [versionBase * 2]byte
	if _, err := p.ReadAt(head[:], at); err != nil {
		return err
	}
	if string(head[kernelMark:kernelMark+4]) != "HdrS" {
		return errors.New("no kernel is where it should be")
	}
	text := make([]byte, maxVersionText)
	n, err := p.ReadAt(text, at+versionBase+int64(binary.LittleEndian.Uint16(head[kernelVersion:])))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	text, _, _ = bytes.Cut(text[:n], []byte{0})
	c.Kernel, _, _ = strings.Cut(string(text), " ")
	return nil
}

func (c *Contents) readRoot(p *io.SectionReader) error {
	root, err := erofs.Open(p)
	if err != nil {
		return err
	}
	if root.Size() > p.Size() {
		return errors.New("it is larger than its partition")
	}
	c.Root = root.Size()
	return nil
}

// readData reads the superblock of ext4 (kernel
// Documentation/filesystems/ext4/super.rst). The guest grows the file system
// to the partition's size, so that what it does not have yet is free as well.
func (c *Contents) readData(p *io.SectionReader) error {
	const at, size = 1024, 1024
	var super [size]byte
	if _, err := p.ReadAt(super[:], at); err != nil {
		return err
	}
	le := binary.LittleEndian
	shift := 10 + le.Uint32(super[0x18:])
	if le.Uint16(super[0x38:]) != 0xef53 || shift > 16 {
		return errors.New("it is no ext4 file system")
	}
	count := func(low, high int) uint64 {
		n := uint64(le.Uint32(super[low:]))
		const incompat64bit = 0x80
		if le.Uint32(super[0x60:])&incompat64bit != 0 {
			n |= uint64(le.Uint32(super[high:])) << 32
		}
		return n
	}
	blocks, free := count(0x4, 0x150), count(0xc, 0x158)
	if free > blocks || blocks > uint64(p.Size())>>shift {
		return errors.New("its counts are out of bounds")
	}
	c.Data = p.Size()
	c.Free = p.Size() - int64((blocks-free)<<shift)
	return nil
}
