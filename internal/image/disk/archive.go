package disk

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"path"
	"strings"
)

// maxMembers bounds the files of an OVA that are looked at.
const maxMembers = 64

// InOVA finds the disk in a virtual machine to import, an OVA: a tar archive
// that begins with a descriptor (DMTF DSP0243). It is nil where there is none.
// An archive with more than one disk is refused.
func InOVA(r io.ReaderAt, size int64) (*io.SectionReader, error) {
	file := io.NewSectionReader(r, 0, size)
	archive := tar.NewReader(file)
	var found *io.SectionReader
	for n := range maxMembers {
		h, err := archive.Next()
		switch {
		case err == io.EOF:
			return found, nil
		case n == 0 && (err != nil || !strings.EqualFold(path.Ext(h.Name), ".ovf")):
			return nil, nil // something else
		case err != nil:
			return nil, refuse("OVA", again, "it cannot be read: %v", err)
		case h.Typeflag != tar.TypeReg || !strings.EqualFold(path.Ext(h.Name), ".vmdk"):
			continue
		case found != nil:
			return nil, refuse("OVA", "tar -xf FILE, and import the disk that boots", "it has more than one disk")
		}
		at, err := file.Seek(0, io.SeekCurrent) // archives are read in whole blocks
		if err != nil {
			return nil, err
		}
		if h.Size > size-at {
			return nil, refuse("OVA", again, "it is truncated: its disk lies beyond its end")
		}
		found = io.NewSectionReader(r, at, h.Size)
	}
	return nil, refuse("OVA", "", "it has more than %d files", maxMembers)
}

// InTarGz returns the size of the disk in an archive for Google's Compute
// Engine, a tar.gz with disk.raw; 0 where r is none.
func InTarGz(r io.ReaderAt, size int64) int64 {
	z, err := gzip.NewReader(io.NewSectionReader(r, 0, size))
	if err != nil {
		return 0
	}
	h, err := tar.NewReader(io.LimitReader(z, maxMap)).Next()
	if err != nil || h.Name != "disk.raw" {
		return 0
	}
	return h.Size
}

// maxMap bounds the map of a disk that an archive begins with.
const maxMap = 64 << 20
