package erofstest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// FromDir lists what a mounted directory holds, sorted by name, every file
// read. It needs root to see all of it.
func FromDir(root string) ([]File, error) {
	var files []File
	inodes := map[string]uint64{}
	buf := make([]byte, 1<<16)
	err := filepath.WalkDir(root, func(full string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		info, err := os.Lstat(full)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			return fmt.Errorf("stat of %q: %w", full, err)
		}
		inodes[name] = st.Ino
		f := File{
			Name:    name,
			Mode:    info.Mode(),
			UID:     st.Uid,
			GID:     st.Gid,
			ModTime: time.Unix(st.Mtim.Unix()).UTC(),
		}
		if f.Xattrs, err = xattrs(full, buf); err != nil {
			return err
		}
		switch {
		case info.Mode()&fs.ModeDevice != 0:
			f.Major, f.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
		case info.Mode().Type() == fs.ModeSymlink:
			f.Target, err = os.Readlink(full)
		case info.Mode().IsRegular():
			f.Size = st.Size
			var r *os.File
			if r, err = os.Open(full); err == nil {
				err = f.hash(r)
			}
		}
		files = append(files, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", root, err)
	}
	return byName(files, func(f *File) uint64 { return inodes[f.Name] }), nil
}

// xattrs reads attributes; b is memory for that.
func xattrs(full string, b []byte) (map[string]string, error) {
	attrs := map[string]string{}
	n, err := unix.Llistxattr(full, b)
	if err != nil {
		return nil, fmt.Errorf("attributes of %q: %w", full, err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(full, name, b)
		if err != nil {
			return nil, fmt.Errorf("attribute %q of %q: %w", name, full, err)
		}
		attrs[name] = string(b[:n])
	}
	return attrs, nil
}
