//go:build linux

package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// serveFiles sends a tar stream of the file or directory in the query. Its
// entries are named from the path's last element on. After an error the stream
// has no end: its head has gone out already.
func serveFiles(x *exchange) {
	from, err := x.queryPath()
	if err != nil {
		x.refuse(statusBadRequest, err)
		return
	}
	if _, err := os.Lstat(from); err != nil {
		x.refuse(fileStatus(err), err)
		return
	}
	out, err := x.stream("application/x-tar")
	if err == nil && packTree(out, from) == nil {
		_ = out.Close() // or the host has gone away
	}
}

// takeFiles unpacks the request's tar stream into the directory in the query.
func takeFiles(x *exchange) {
	to, err := x.queryPath()
	if err != nil {
		x.refuse(statusBadRequest, err)
		return
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		x.refuse(fileStatus(err), err)
		return
	}
	defer root.Close()
	if err := unpackTree(root, x.body); err != nil {
		x.refuse(fileStatus(err), err)
		return
	}
	x.done()
}

func (x *exchange) queryPath() (string, error) {
	p := x.query.Get("path")
	if p == "" || strings.ContainsRune(p, 0) {
		return "", errors.New("the request names no path")
	}
	return path.Clean("/" + p), nil
}

func fileStatus(err error) int {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return statusNoSuch
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return statusForbidden
	case errors.Is(err, unix.ENOSPC):
		return statusNoSpace
	}
	return statusBadRequest
}

// packTree writes the tree at from. Sockets cannot be in a tar and are left
// out; so is what vanishes meanwhile.
func packTree(w io.Writer, from string) error {
	out := tar.NewWriter(w)
	base := path.Base(from)
	err := filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && file != from {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Join(base, strings.TrimPrefix(file, from))
		if base == "/" {
			name = path.Join(".", file)
		}
		return packEntry(out, file, name)
	})
	return errors.Join(err, out.Close())
}

func packEntry(out *tar.Writer, file, name string) error {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	if err != nil {
		return err
	}
	var link string
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	head, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	if head.Name = name; info.IsDir() {
		head.Name += "/"
	}
	if !info.Mode().IsRegular() {
		return out.WriteHeader(head)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := out.WriteHeader(head); err != nil {
		return err
	}
	// A file that grows is cut at the size that was announced; one that
	// shrinks breaks the stream, which the receiver sees.
	if _, err := io.CopyN(out, f, head.Size); err != nil {
		return fmt.Errorf("sending %s: %w", file, err)
	}
	return nil
}

// unpackTree unpacks a tar stream into root. os.Root keeps every path inside
// it, whatever the names and the symbolic links in the stream say.
func unpackTree(root *os.Root, r io.Reader) error {
	in := tar.NewReader(r)
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the tar stream: %w", err)
		}
		name := path.Clean(strings.TrimLeft(head.Name, "/"))
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the tar stream has the path %q, which is outside of the directory", head.Name)
		}
		if err := unpackEntry(root, name, head, in); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
}

func unpackEntry(root *os.Root, name string, head *tar.Header, body io.Reader) error {
	mode := head.FileInfo().Mode()
	if head.Typeflag == tar.TypeDir {
		if err := root.MkdirAll(name, 0o755); err != nil {
			return err
		}
		return finishEntry(root, name, head, mode)
	}
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// What is there is replaced, not written to: it may be a program that runs.
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch head.Typeflag {
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := root.Symlink(head.Linkname, name); err != nil {
			return err
		}
		return root.Lchown(name, head.Uid, head.Gid)
	case tar.TypeLink:
		old := path.Clean(strings.TrimLeft(head.Linkname, "/"))
		return root.Link(old, name)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		if err := makeNode(root, name, head); err != nil {
			return err
		}
	default:
		return fmt.Errorf("entries of type %q are not supported", head.Typeflag)
	}
	return finishEntry(root, name, head, mode)
}

// finishEntry sets owner, mode and time; the owner first, since changing it
// clears the set-user-ID bit.
func finishEntry(root *os.Root, name string, head *tar.Header, mode fs.FileMode) error {
	if err := root.Lchown(name, head.Uid, head.Gid); err != nil {
		return err
	}
	if err := root.Chmod(name, mode&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	return root.Chtimes(name, head.ModTime, head.ModTime)
}

// makeNode makes a device or a FIFO, below a directory that is opened inside
// of root.
func makeNode(root *os.Root, name string, head *tar.Header) error {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	kind := map[byte]uint32{tar.TypeFifo: syscall.S_IFIFO, tar.TypeChar: syscall.S_IFCHR, tar.TypeBlock: syscall.S_IFBLK}[head.Typeflag]
	device := unix.Mkdev(uint32(head.Devmajor), uint32(head.Devminor))
	return unix.Mknodat(int(dir.Fd()), path.Base(name), kind|0o600, int(device))
}
