// Package ova writes virtual machines to import: an OVF descriptor (DMTF
// DSP0243, "Open Virtualization Format"), the machine's disk and a manifest of
// both in a tar archive. VMware's programs and VirtualBox take it.
package ova

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"
)

// Machine is a machine of one disk.
type Machine struct {
	Name   string
	CPUs   int
	Memory int64 // bytes
	Size   int64 // of the disk, in bytes
	ID     [16]byte
}

//go:embed machine.ovf
var machineOVF string

var descriptor = template.Must(template.New("machine.ovf").Funcs(template.FuncMap{"xml": escape}).Parse(machineOVF))

func escape(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

// file is what an archive is written to; it is empty. What was written is read
// again, because the manifest is of a disk whose tables are written last.
type file interface {
	io.WriterAt
	io.ReaderAt
}

const (
	block = 512 // of a tar archive

	// descriptorSize is what the descriptor is padded to: it is the archive's
	// first file, and says how large the disk's is, which comes to be known
	// later.
	descriptorSize = 16 << 10
	diskAt         = block + descriptorSize + block
)

// Write writes the archive. The disk is what disk writes, a streamOptimized
// VMDK of so many bytes.
func Write(f file, m Machine, disk func(io.WriterAt) (size int64, err error)) error {
	size, err := disk(io.NewOffsetWriter(f, diskAt))
	if err != nil {
		return err
	}
	ovf, err := m.describe(size)
	if err != nil {
		return err
	}
	name := m.fileName()
	front, err := headers(entry{name + ".ovf", ovf, int64(len(ovf))}, entry{name: m.DiskName(), size: size})
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(front, 0); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, diskAt, size)); err != nil {
		return fmt.Errorf("reading the disk for the manifest: %w", err)
	}
	manifest := fmt.Appendf(nil, "SHA256(%s.ovf)= %x\nSHA256(%s)= %x\n", name, sha256.Sum256(ovf), m.DiskName(), sum.Sum(nil))
	end, err := headers(entry{name + ".mf", manifest, int64(len(manifest))})
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(end, make([]byte, 2*block)...), diskAt+(size+block-1)/block*block)
	return err
}

// describe returns the descriptor, with lines of blanks behind it.
func (m Machine) describe(disk int64) ([]byte, error) {
	var b bytes.Buffer
	err := descriptor.Execute(&b, struct {
		Machine
		Disk     string
		DiskFile int64
		MiB      int64
		UUID     string
	}{m, m.DiskName(), disk, m.Memory >> 20, fmt.Sprintf("%x-%x-%x-%x-%x", m.ID[:4], m.ID[4:6], m.ID[6:8], m.ID[8:10], m.ID[10:])})
	if err != nil {
		return nil, err
	}
	if b.Len() > descriptorSize {
		return nil, fmt.Errorf("a descriptor of %d bytes is too long", b.Len())
	}
	return append(b.Bytes(), bytes.Repeat([]byte("\n"), descriptorSize-b.Len())...), nil
}

// fileName is the machine's name as one of files, as every system takes it.
func (m Machine) fileName() string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, m.Name[:min(len(m.Name), 60)])
}

// DiskName is what the disk is called in the archive.
func (m Machine) DiskName() string { return m.fileName() + "-disk1.vmdk" }

// entry is one of the archive's files; of the disk's there is only the header.
type entry struct {
	name    string
	content []byte
	size    int64
}

// headers is what an archive has of its next files.
func headers(list ...entry) ([]byte, error) {
	var b bytes.Buffer
	for _, e := range list {
		w := tar.NewWriter(&b)
		h := tar.Header{Name: e.name, Size: e.size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if e.size >= 8<<30 { // which USTAR cannot say
			h.Format = tar.FormatGNU
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
		if e.content != nil {
			if err := w.Flush(); err != nil { // to whole blocks
				return nil, err
			}
		}
	}
	return b.Bytes(), nil
}
