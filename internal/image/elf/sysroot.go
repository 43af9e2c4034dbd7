package elf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links one path may lead through, as in Linux.
const maxLinks = 40

// sysroot is a directory of the host taken as the root of a Linux system.
// Absolute symbolic links in it lead to places in it.
type sysroot string

// link is a symbolic link of a sysroot.
type link struct{ path, target string }

// host returns the host's path of a path in the sysroot that leads through no
// symbolic link.
func (s sysroot) host(name string) string {
	return filepath.Join(string(s), filepath.FromSlash(name))
}

// resolve follows a path in the sysroot to the end, and returns the path
// without links and the links that led there.
func (s sysroot) resolve(name string) (string, []link, error) {
	var links []link
	at, rest := "/", strings.TrimPrefix(path.Clean("/"+name), "/")
	for rest != "" {
		var element string
		element, rest, _ = strings.Cut(rest, "/")
		switch element {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, element)
		info, err := os.Lstat(s.host(next))
		if err != nil {
			return "", nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if len(links) == maxLinks {
			return "", nil, fmt.Errorf("%s: too many symbolic links", name)
		}
		target, err := os.Readlink(s.host(next))
		if err != nil {
			return "", nil, err
		}
		target = filepath.ToSlash(target)
		links = append(links, link{next, target})
		if path.IsAbs(target) {
			at = "/"
		}
		rest = target + "/" + rest
	}
	return at, links, nil
}

// object parses the ELF file at a path without links.
func (s sysroot) object(name string) (*Object, error) {
	f, err := openRegular(s.host(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseFile(f)
}

// text returns a configuration file, or "" where it is absent or unreadable,
// as the loader takes it. More than 1 MiB of it is not read.
func (s sysroot) text(name string) string {
	at, _, err := s.resolve(name)
	if err != nil {
		return ""
	}
	f, err := openRegular(s.host(at))
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return ""
	}
	return string(data)
}

// openRegular opens a file that a FIFO or device must not stand in for.
func openRegular(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("a directory, not a program")
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return os.Open(name)
}

func parseFile(f *os.File) (*Object, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return Parse(f, info.Size())
}
