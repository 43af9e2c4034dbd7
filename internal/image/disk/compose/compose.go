// Package compose writes disks that boot by themselves on a machine with UEFI:
// a GPT with the guest in its EFI system partition, the instance's config, the
// image's root, and an ext4 partition for what the application writes.
//
// Nothing is read back and holes stay holes, so that time and space follow the
// content; the same Disk makes the same bytes, from its first to its last, so
// that they can go to a network as well. In which format the disk is stored is
// up to what it is written to.
package compose

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"capstan/guest/api"
	"capstan/internal/image/disk"
	"capstan/internal/image/ext4"
)

// Names of the partitions, by which the guest finds them.
const (
	espPartition  = "EFI system partition"
	rootPartition = "capstan-root"
	dataPartition = "capstan-data"
)

// Root is where the instance config of such a disk says that the root is.
func Root() api.Root {
	return api.Root{Lower: []string{"partlabel:" + rootPartition}, Upper: "partlabel:" + dataPartition}
}

const (
	alignment = 1 << 20 // of partitions, in bytes
	minData   = 64 << 20

	// formatted is as much of the data partition as gets a file system here.
	// The guest grows it to the partition's size at the first boot; so a large
	// disk takes no more tables than a small one.
	formatted = 1 << 30

	// Spare is what a disk has for the application's data, unless its size
	// is given.
	Spare = 10 << 30
)

// Disk is what is on a disk.
type Disk struct {
	// Size in bytes; 0 for what the rest takes and Spare. It is rounded up to
	// whole Units, which are multiples of a MiB; 0 is a MiB.
	Size, Unit int64
	// Kernel is the guest, an EFI program.
	Kernel []byte
	// Config is the instance config's document; it says Root.
	Config []byte
	// Root is the root's EROFS, of RootSize bytes.
	Root     io.ReaderAt
	RootSize int64
	// Seed makes the disk's and its partitions' IDs differ from those of
	// disks with other roots of the same size.
	Seed string
	// Written is told how much of Root has been written; it may be nil.
	Written func(done int64)
}

// SmallError is a disk that is too small for what it is to hold.
type SmallError struct{ Size, Needed int64 }

func (e *SmallError) Error() string {
	return fmt.Sprintf("a disk of %d MiB is too small: the image needs %d MiB at least", e.Size>>20, e.Needed>>20)
}

// Layout is where everything lies on a disk.
type Layout struct {
	Size  int64
	parts []partition
}

// Layout places the partitions.
func (d *Disk) Layout() (Layout, error) {
	if len(d.Kernel) > maxKernel {
		return Layout{}, fmt.Errorf("a guest of %d bytes is too large for an EFI system partition", len(d.Kernel))
	}
	var l Layout
	at := int64(alignment) // the GPT is before it
	for _, p := range []partition{
		{name: espPartition, kind: typeESP, size: espSize},
		{name: api.ConfigPartition, kind: typeLinux, size: int64(len(d.Config))},
		{name: rootPartition, kind: typeLinux, size: d.RootSize},
	} {
		p.start, p.size = at, aligned(p.size)
		at += p.size
		l.parts = append(l.parts, p)
	}
	needed := at + minData + alignment // the second GPT is in the last MiB
	l.Size = roundUp(d.Size, max(d.Unit, alignment))
	switch {
	case d.Size == 0:
		l.Size = roundUp(at+Spare+alignment, max(d.Unit, alignment))
	case l.Size < needed:
		return l, &SmallError{l.Size, needed}
	case l.Size > disk.MaxSize || d.Size > disk.MaxSize:
		return l, fmt.Errorf("a disk of %d TiB is larger than the most that is written, %d TiB", d.Size>>40, int64(disk.MaxSize>>40))
	}
	l.parts = append(l.parts, partition{name: dataPartition, kind: typeLinux, start: at, size: l.Size - alignment - at})
	return l, nil
}

func aligned(n int64) int64 { return roundUp(n, alignment) }

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// Write writes the disk to w, which reads as zeros wherever it is not written,
// and is l.Size bytes long or becomes so.
//
// Every write begins where the last one ended or behind it: w may be a stream
// that never goes back. It may be called again, and writes the same then.
func (d *Disk) Write(ctx context.Context, w io.WriterAt, l Layout) error {
	id := d.identity(l)
	esp, config, root, data := l.parts[0], l.parts[1], l.parts[2], l.parts[3]
	front, end := gpt(l, id)
	for _, step := range []struct {
		what  string
		write func() error
	}{
		{"partition table", func() error { _, err := w.WriteAt(front, 0); return err }},
		{"EFI system partition", func() error { return writeESP(io.NewOffsetWriter(w, esp.start), esp.start, id, d.Kernel) }},
		{"instance config", func() error { _, err := w.WriteAt(d.Config, config.start); return err }},
		{"root", func() error { return d.copyRoot(ctx, io.NewOffsetWriter(w, root.start)) }},
		{"data partition", func() error {
			return ascending(io.NewOffsetWriter(w, data.start), func(w io.WriterAt) error {
				return ext4.Format(w, ext4.Options{
					Size: min(data.size, formatted), Label: dataPartition, UUID: id.guid(dataPartition),
				})
			})
		}},
		{"second partition table", func() error { _, err := w.WriteAt(end, l.Size-int64(len(end))); return err }},
	} {
		if err := step.write(); err != nil {
			return fmt.Errorf("writing the disk's %s: %w", step.what, err)
		}
	}
	return nil
}

// ID is the disk's, by which hypervisors know it.
func (d *Disk) ID(l Layout) [16]byte { return d.identity(l).guid("file") }

// identity is of all that the disk is made of.
func (d *Disk) identity(l Layout) identity {
	h := sha256.New()
	fmt.Fprintf(h, "capstan disk %d %q %d %d %d\n", l.Size, d.Seed, d.RootSize, len(d.Config), len(d.Kernel))
	h.Write(d.Config)
	h.Write(d.Kernel)
	return identity(h.Sum(nil))
}

// copyRoot copies the root but for blocks of zeros.
func (d *Disk) copyRoot(ctx context.Context, w io.WriterAt) error {
	const chunk = 1 << 20
	buf := make([]byte, chunk)
	for at := int64(0); at < d.RootSize; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunk, d.RootSize-at)
		if k, err := d.Root.ReadAt(buf[:n], at); int64(k) < n {
			return fmt.Errorf("reading it: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		if err := writeData(w, buf[:n], at); err != nil {
			return err
		}
		at += n
		if d.Written != nil {
			d.Written(at)
		}
	}
	if n, err := d.Root.ReadAt(buf[:1], d.RootSize); n > 0 || err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("it is longer than the %d bytes that it should have", d.RootSize)
	}
	return nil
}

// zeros is a block that is not written.
var zeros [64 << 10]byte

// writeData writes what is at an offset but for blocks of zeros.
func writeData(w io.WriterAt, p []byte, at int64) error {
	for from := 0; from < len(p); {
		to := from
		for to < len(p) && !zero(p[to:min(to+len(zeros), len(p))]) {
			to = min(to+len(zeros), len(p))
		}
		if to > from {
			if _, err := w.WriteAt(p[from:to], at+int64(from)); err != nil {
				return err
			}
		}
		from = to + len(zeros)
	}
	return nil
}

func zero(block []byte) bool { return bytes.Equal(block, zeros[:len(block)]) }
