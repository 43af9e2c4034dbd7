package erofstest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"capstan/internal/image/erofs"
)

// File is all that a file system is to keep of one name.
type File struct {
	Name         string // from the root, without a slash at its ends; the root is "."
	Mode         fs.FileMode
	UID, GID     uint32
	ModTime      time.Time
	Size         int64             // of a regular file
	Target       string            // of a symbolic link
	Major, Minor uint32            // of a device
	Xattrs       map[string]string // never nil
	Digest       [32]byte          // of a regular file's content; see digest
	// First is the least of the names of the same file; Links how many
	// there are. Directories count 1.
	First string
	Links int
}

// byName sorts files and fills First and Links in: id gives the same value for
// the names of one file.
func byName[K comparable](files []File, id func(*File) K) []File {
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	first, links := map[K]string{}, map[K]int{}
	for i := range files {
		k := id(&files[i])
		if links[k]++; links[k] == 1 {
			first[k] = files[i].Name
		}
	}
	for i := range files {
		k := id(&files[i])
		files[i].First, files[i].Links = first[k], links[k]
	}
	return files
}

// FromTar lists what a tar describes, sorted by name. Each name may come once;
// parents and hard links' targets must come before what needs them.
func FromTar(r io.Reader) ([]File, error) {
	var files []File
	index := map[string]int{} // by name
	ids := map[string]int{}   // the same for all names of a file
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the tar: %w", err)
		}
		name := path.Clean(hdr.Name)
		if _, twice := index[name]; twice {
			return nil, fmt.Errorf("%q comes twice", name)
		}
		var f File
		if hdr.Typeflag == tar.TypeLink {
			at, ok := index[path.Clean(hdr.Linkname)]
			if !ok {
				return nil, fmt.Errorf("%q links to %q, which has not come", name, hdr.Linkname)
			}
			f = files[at]
			ids[name] = ids[f.Name]
		} else {
			if f, err = fromHeader(hdr, tr); err != nil {
				return nil, err
			}
			ids[name] = len(files)
		}
		f.Name = name
		index[name] = len(files)
		files = append(files, f)
	}
	return byName(files, func(f *File) int { return ids[f.Name] }), nil
}

func fromHeader(hdr *tar.Header, r io.Reader) (File, error) {
	f := File{
		Mode:    hdr.FileInfo().Mode(),
		UID:     uint32(hdr.Uid),
		GID:     uint32(hdr.Gid),
		ModTime: hdr.ModTime.UTC(),
		Xattrs:  map[string]string{},
	}
	for key, value := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			f.Xattrs[name] = value
		}
	}
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		f.Mode = fs.ModeSymlink | 0o777 // on Linux there is no other
		f.Target = hdr.Linkname
	case tar.TypeChar, tar.TypeBlock:
		f.Major, f.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	case tar.TypeReg:
		f.Size = hdr.Size
		var err error
		if f.Digest, err = digest(r, f.Size); err != nil {
			return f, fmt.Errorf("reading %q: %w", hdr.Name, err)
		}
	}
	return f, nil
}

const piece = 64 << 10

// zeros is never written to.
var zeros [piece]byte

// digest reads content of about the given size. It hashes the length, and each
// piece with its place unless it is zero, so that holes cost little.
func digest(r io.Reader, size int64) (sum [32]byte, err error) {
	h := sha256.New()
	buf := make([]byte, min(size+1, piece))
	for at := uint64(0); ; {
		n, err := io.ReadFull(r, buf)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			h.Write(binary.LittleEndian.AppendUint64(nil, at))
			h.Write(buf[:n])
		}
		at += uint64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			h.Write(binary.LittleEndian.AppendUint64(nil, at))
			return [32]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// FromImage lists what an image holds, sorted by name, every file read.
func FromImage(image *erofs.FS) ([]File, error) {
	var files []File
	inodes := map[string]uint64{}
	err := fs.WalkDir(image, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := image.Lstat(name)
		if err != nil {
			return err
		}
		if d.Type() != info.Mode().Type() {
			return fmt.Errorf("%q is %v in its directory and %v in its inode", name, d.Type(), info.Mode())
		}
		stat := info.Sys().(*erofs.Stat)
		inodes[name] = stat.Inode
		f := File{
			Name:    name,
			Mode:    info.Mode(),
			UID:     stat.UID,
			GID:     stat.GID,
			ModTime: info.ModTime().UTC(),
			Major:   stat.Major,
			Minor:   stat.Minor,
			Xattrs:  map[string]string{},
		}
		attrs, err := image.Xattrs(name)
		if err != nil {
			return err
		}
		for k, v := range attrs {
			f.Xattrs[k] = string(v)
		}
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			f.Target, err = image.ReadLink(name)
		case 0:
			f.Size = info.Size()
			var r fs.File
			if r, err = image.Open(name); err == nil {
				err = f.hash(r)
			}
		}
		files = append(files, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the image: %w", err)
	}
	return byName(files, func(f *File) uint64 { return inodes[f.Name] }), nil
}

// hash reads the file to its end and closes it.
func (f *File) hash(r io.ReadCloser) (err error) {
	defer r.Close()
	f.Digest, err = digest(r, f.Size)
	return err
}

// Diff describes the first differences between two sorted lists, one a line.
// It is empty if there are none.
func Diff(want, got []File) string {
	var b strings.Builder
	for lines := 0; lines < 20 && (len(want) > 0 || len(got) > 0); lines++ {
		switch {
		case len(got) == 0 || len(want) > 0 && want[0].Name < got[0].Name:
			fmt.Fprintf(&b, "missing: %.200q\n", want[0].Name)
			want = want[1:]
		case len(want) == 0 || got[0].Name < want[0].Name:
			fmt.Fprintf(&b, "not in the source: %.200q\n", got[0].Name)
			got = got[1:]
		default:
			if d := want[0].diff(&got[0]); d != "" {
				fmt.Fprintf(&b, "%.200q: %s\n", want[0].Name, d)
			} else {
				lines--
			}
			want, got = want[1:], got[1:]
		}
	}
	return b.String()
}

// diff describes how g differs from f.
func (f *File) diff(g *File) string {
	var d []string
	add := func(what string, want, got any) {
		d = append(d, fmt.Sprintf("%s is %.100v, want %.100v", what, got, want))
	}
	if f.Mode != g.Mode {
		add("mode", f.Mode, g.Mode)
	}
	if f.UID != g.UID || f.GID != g.GID {
		add("owner", fmt.Sprint(f.UID, ":", f.GID), fmt.Sprint(g.UID, ":", g.GID))
	}
	if !f.ModTime.Equal(g.ModTime) {
		add("time", f.ModTime, g.ModTime)
	}
	if f.Size != g.Size {
		add("size", f.Size, g.Size)
	}
	if f.Target != g.Target {
		add("target", f.Target, g.Target)
	}
	if f.Major != g.Major || f.Minor != g.Minor {
		add("device", fmt.Sprint(f.Major, ":", f.Minor), fmt.Sprint(g.Major, ":", g.Minor))
	}
	if !maps.Equal(f.Xattrs, g.Xattrs) {
		add("attributes", f.Xattrs, g.Xattrs)
	}
	if f.Digest != g.Digest {
		add("digest", fmt.Sprintf("%x", f.Digest), fmt.Sprintf("%x", g.Digest))
	}
	if f.First != g.First || f.Links != g.Links {
		add("links", fmt.Sprint(f.First, f.Links), fmt.Sprint(g.First, g.Links))
	}
	return strings.Join(d, "; ")
}
