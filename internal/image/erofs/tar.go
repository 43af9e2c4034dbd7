package erofs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// xattrRecord begins the PAX records that hold extended attributes.
const xattrRecord = "SCHILY.xattr."

// FromTar translates a tar header that is neither a hard link nor a global
// header. Extended attributes that EROFS has no place for (see [HasXattr]) are
// left out, as engines do on file systems that refuse them.
func FromTar(hdr *tar.Header) (*Entry, error) {
	const maxID = 1<<32 - 1
	if hdr.Uid < 0 || hdr.Gid < 0 || int64(hdr.Uid) > maxID || int64(hdr.Gid) > maxID {
		return nil, fmt.Errorf("owner %d:%d: %w", hdr.Uid, hdr.Gid, ErrEntry)
	}
	// The type comes from the flag alone: some archives hold others in Mode.
	mode := fs.FileMode(hdr.Mode & 0o777)
	if hdr.Mode&modeSetuid != 0 {
		mode |= fs.ModeSetuid
	}
	if hdr.Mode&modeSetgid != 0 {
		mode |= fs.ModeSetgid
	}
	if hdr.Mode&modeSticky != 0 {
		mode |= fs.ModeSticky
	}
	e := &Entry{
		Name:    hdr.Name,
		UID:     uint32(hdr.Uid),
		GID:     uint32(hdr.Gid),
		ModTime: hdr.ModTime,
	}
	switch hdr.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		e.Size = hdr.Size
	case tar.TypeDir:
		mode |= fs.ModeDir
	case tar.TypeSymlink:
		mode = fs.ModeSymlink | 0o777 // on Linux there is no other
		e.Target = hdr.Linkname
	case tar.TypeFifo:
		mode |= fs.ModeNamedPipe
	case tar.TypeBlock:
		mode |= fs.ModeDevice
	case tar.TypeChar:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	default:
		return nil, fmt.Errorf("tar entry of type %q: %w", hdr.Typeflag, ErrEntry)
	}
	e.Mode = mode
	if mode&fs.ModeDevice != 0 {
		if hdr.Devmajor < 0 || hdr.Devminor < 0 || hdr.Devmajor > maxMajor || hdr.Devminor > maxMinor {
			return nil, fmt.Errorf("device %d:%d: %w", hdr.Devmajor, hdr.Devminor, ErrEntry)
		}
		e.Major, e.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	}
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok || !HasXattr(name) {
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = make(map[string][]byte)
		}
		e.Xattrs[name] = []byte(value)
	}
	return e, nil
}

// AddTarEntry adds what a tar header describes, with its content from r, which
// is the [tar.Reader] that gave the header. Global headers are passed over.
func (w *Writer) AddTarEntry(hdr *tar.Header, r io.Reader) error {
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeLink:
		return w.Link(hdr.Name, hdr.Linkname)
	}
	e, err := FromTar(hdr)
	if err != nil {
		return fmt.Errorf("adding %.200q: %w", hdr.Name, err)
	}
	return w.Add(e, r)
}

// AddTar adds all entries of a tar stream: POSIX, PAX or GNU, with sparse
// files, extended attributes and hard links. Whiteouts mean nothing to it. A
// hard link's target has to come before the link.
func (w *Writer) AddTar(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		// Insecure paths are refused or contained when they are added.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("reading the tar: %w", err)
		}
		if err := w.AddTarEntry(hdr, tr); err != nil {
			return err
		}
	}
}
