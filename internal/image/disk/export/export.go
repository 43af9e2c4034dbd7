// Package export writes a disk in the formats that other hypervisors and clouds
// take. What is on it comes from a function, mostly compose's.
package export

import (
	"context"
	"fmt"
	"io"
	"os"

	"capstan/internal/image/disk"
	"capstan/internal/image/disk/gce"
	"capstan/internal/image/disk/ova"
	"capstan/internal/image/disk/qcow2"
	"capstan/internal/image/disk/vdi"
	"capstan/internal/image/disk/vhd"
	"capstan/internal/image/disk/vmdk"
)

// Format is a format in which a disk is written.
type Format string

const (
	Raw        Format = "raw"
	QCOW2      Format = "qcow2"
	VMDK       Format = "vmdk"        // monolithicSparse: to run from
	VMDKStream Format = "vmdk-stream" // streamOptimized: to send, compressed
	VDI        Format = "vdi"
	VHD        Format = "vhd"       // dynamic
	VHDFixed   Format = "vhd-fixed" // as Azure takes it
	OVA        Format = "ova"       // a machine, with a streamOptimized VMDK
	GCE        Format = "gce"       // disk.raw in a tar.gz, as Compute Engine takes it
)

// Formats are those that Write writes.
func Formats() []Format {
	return []Format{Raw, QCOW2, VMDK, VMDKStream, VDI, VHD, VHDFixed, OVA, GCE}
}

// Unit is what a disk's size is to be a multiple of, in bytes.
func (f Format) Unit() int64 {
	switch f {
	case GCE:
		return gce.Unit
	case VHD, VHDFixed:
		return 1 << 20 // Azure's
	}
	return 512
}

// MaxSize is that of the largest disk that the format takes, in bytes.
func (f Format) MaxSize() int64 {
	if f == VHD || f == VHDFixed {
		return vhd.MaxSize
	}
	return disk.MaxSize
}

// Disk is a disk to be written.
type Disk struct {
	// Size in bytes, of whole sectors.
	Size int64
	// Name of the file, which some formats note in it.
	Name string
	// ID by which hypervisors know the disk; VirtualBox takes no two disks
	// with the same one.
	ID [16]byte
	// Content writes what is on the disk but for zeros, each write behind the
	// one before. Formats that begin with a map of the disk call it twice.
	Content func(ctx context.Context, w io.WriterAt) error
	// Machine is what an OVA says of the machine around the disk.
	Machine Machine
}

// Machine is a machine with a disk.
type Machine struct {
	Name   string
	CPUs   int
	Memory int64 // bytes
}

// target is what a disk is written to in a format.
type target interface {
	io.WriterAt
	Close() error // makes it whole
}

// Write writes the disk to a file, which is empty.
func Write(ctx context.Context, f *os.File, format Format, d Disk) error {
	var to target
	var err error
	switch format {
	case Raw:
		makeSparse(f)
		if err := f.Truncate(d.Size); err != nil {
			return err
		}
		return d.Content(ctx, f)
	case VHDFixed:
		makeSparse(f)
		if err := d.Content(ctx, f); err != nil {
			return err
		}
		return vhd.WriteFooter(f, d.Size, d.ID)
	case VMDKStream:
		s, err := vmdk.NewStreamFile(f, d.Size, d.vmdk())
		if err != nil {
			return err
		}
		return d.stream(ctx, s)
	case GCE:
		return Stream(ctx, f, format, d)
	case OVA:
		return d.ova(ctx, f)
	case QCOW2:
		to, err = qcow2.NewWriter(reserving(f), d.Size)
	case VMDK:
		to, err = vmdk.NewWriter(reserving(f), d.Size, d.vmdk())
	case VDI:
		to, err = vdi.NewWriter(reserving(f), d.Size, d.ID)
	case VHD:
		to, err = vhd.NewWriter(reserving(f), d.Size, d.ID)
	default:
		err = fmt.Errorf("%s is no format of disks", format)
	}
	if err != nil {
		return err
	}
	if err := d.Content(ctx, to); err != nil {
		return err
	}
	return to.Close()
}

// Sequential tells the formats that Stream writes.
func (f Format) Sequential() bool { return f == Raw || f == VHDFixed || f == VMDKStream || f == GCE }

// Stream writes the disk to w from its first byte to its last, in a format that
// is Sequential. Of raw formats it writes all zeros.
func Stream(ctx context.Context, w io.Writer, format Format, d Disk) error {
	switch format {
	case Raw, VHDFixed:
		whole := &filled{ctx: ctx, w: w}
		if err := d.Content(ctx, whole); err != nil {
			return err
		}
		if err := whole.fill(d.Size); err != nil || format == Raw {
			return err
		}
		return vhd.WriteFooter(whole, d.Size, d.ID)
	case VMDKStream:
		s, err := vmdk.NewStream(w, d.Size, d.vmdk())
		if err != nil {
			return err
		}
		return d.stream(ctx, s)
	case GCE:
		return gce.Write(w, d.Size, func(w io.WriterAt) error { return d.Content(ctx, w) })
	}
	return fmt.Errorf("a disk in format %s is not written from its beginning to its end", format)
}

func (d Disk) vmdk() vmdk.Options { return vmdk.Options{Name: d.Name, ID: d.ID} }

func (d Disk) stream(ctx context.Context, s *vmdk.Stream) error {
	if err := d.Content(ctx, s); err != nil {
		s.Discard()
		return err
	}
	return s.Close()
}

func (d Disk) ova(ctx context.Context, f *os.File) error {
	m := ova.Machine{Name: d.Machine.Name, CPUs: d.Machine.CPUs, Memory: d.Machine.Memory, Size: d.Size, ID: d.ID}
	return ova.Write(f, m, func(w io.WriterAt) (int64, error) {
		s, err := vmdk.NewStreamFile(w, d.Size, vmdk.Options{Name: m.DiskName(), ID: d.ID})
		if err != nil {
			return 0, err
		}
		err = d.stream(ctx, s)
		return s.Len(), err
	})
}
