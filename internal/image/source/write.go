package source

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// settling is how long two changes of a file may share a time stamp: the
// longest tick of a Linux kernel (HZ=100), doubled.
const settling = 20 * time.Millisecond

// writeTree writes a planned tree.
func (l *Layer) writeTree(ctx context.Context, w io.Writer) error {
	r, err := openReader(l.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	out := bufio.NewWriterSize(w, 256<<10)
	tw := &treeWriter{
		ctx: ctx, tar: tar.NewWriter(out), reader: r,
		buf: make([]byte, 256<<10), linked: map[fileID]string{},
	}
	if err := tw.children(l.top, ""); err != nil {
		return err
	}
	if err := tw.tar.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// settle waits until no file's time stamp is the present's: a file that is
// changed after it was read would else look the same to the next fingerprint.
func (l *Layer) settle(ctx context.Context) error {
	limit := time.Now().Add(settling).UnixNano()
	var newest int64
	if l.tar != nil {
		newest = l.tar.meta.newest(limit)
	} else {
		newest = l.top.newest(limit)
	}
	wait := time.Until(time.Unix(0, newest).Add(settling))
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// newest returns the latest time stamp that is not after a limit: a clock
// that is ahead elsewhere is not waited for.
func (m meta) newest(limit int64) int64 {
	var t int64
	for _, s := range []int64{m.mtime, m.ctime} {
		if s <= limit {
			t = max(t, s)
		}
	}
	return t
}

// newest is the same for a node and all below it.
func (n *node) newest(limit int64) int64 {
	t := n.meta.newest(limit)
	for _, c := range n.children {
		t = max(t, c.newest(limit))
	}
	return t
}

// fileID tells a file of the host from all others, within one input.
type fileID struct {
	input    int
	dev, ino uint64
}

type treeWriter struct {
	ctx    context.Context
	tar    *tar.Writer
	reader *reader
	buf    []byte
	linked map[fileID]string // the first name of a file that has several
}

func (w *treeWriter) children(dir *node, name string) error {
	for _, c := range dir.sorted() {
		if err := w.node(c, path.Join(name, c.name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWriter) node(n *node, name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	h := header(n, name)
	switch n.mode.Type() {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		if !n.below {
			if err := w.tar.WriteHeader(h); err != nil {
				return fmt.Errorf("writing %s: %w", name, err)
			}
		}
		return w.children(n, name)
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.target
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case fs.ModeDevice:
		h.Typeflag = tar.TypeBlock
		h.Devmajor, h.Devminor = deviceNumbers(n.rdev)
	case fs.ModeDevice | fs.ModeCharDevice:
		h.Typeflag = tar.TypeChar
		h.Devmajor, h.Devminor = deviceNumbers(n.rdev)
	default:
		return w.file(n, h)
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// header returns what the entries of all types have.
func header(n *node, name string) *tar.Header {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(n.mode.Perm()),
		ModTime: time.Unix(0, n.mtime).UTC().Truncate(time.Second),
	}
	for bit, v := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if n.mode&bit != 0 {
			h.Mode |= v
		}
	}
	return h
}

// file writes a regular file.
func (w *treeWriter) file(n *node, h *tar.Header) error {
	h.Typeflag, h.Size = tar.TypeReg, n.size
	if n.data != nil {
		h.Size = int64(len(n.data))
		if err := w.tar.WriteHeader(h); err != nil {
			return fmt.Errorf("writing %s: %w", h.Name, err)
		}
		_, err := w.tar.Write(n.data)
		return err
	}
	if n.nlink > 1 {
		id := fileID{n.input, n.dev, n.ino}
		if first, ok := w.linked[id]; ok {
			h.Typeflag, h.Size, h.Linkname = tar.TypeLink, 0, first
			return w.tar.WriteHeader(h)
		}
		w.linked[id] = h.Name
	}
	f, err := w.reader.open(n)
	if err != nil {
		return err
	}
	defer f.Close()
	caps, err := capability(f)
	if err != nil {
		return fmt.Errorf("reading the capabilities of %s: %w", n.host, err)
	}
	if caps != nil {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": string(caps)}
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("writing %s: %w", h.Name, err)
	}
	return w.content(n, f)
}

var errChanged = errors.New("it changed while the image was built")

// content copies a file that must be and stay what it was when it was planned.
func (w *treeWriter) content(n *node, f *os.File) error {
	got, err := io.CopyBuffer(w.tar, &contextReader{w.ctx, io.LimitReader(f, n.size)}, w.buf)
	if err != nil {
		return fmt.Errorf("copying %s: %w", n.host, cause(err))
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("reading %s: %w", n.host, cause(err))
	}
	if m := metaOf(info); got != n.size || m.size != n.size || m.mtime != n.mtime {
		return fmt.Errorf("reading %s: %w", n.host, errChanged)
	}
	return nil
}

// contextReader ends a long copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// reader opens the files of a plan.
type reader struct{ root *os.Root }

// openReader opens the directory that relative paths are relative to; an
// empty one is for plans that have none.
func openReader(dir string) (*reader, error) {
	if dir == "" {
		return &reader{}, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", dir, cause(err))
	}
	return &reader{root}, nil
}

func (r *reader) Close() error {
	if r.root == nil {
		return nil
	}
	return r.root.Close()
}

// open opens a node's file, which must still be the one that was planned.
// Relative paths cannot lead out of the directory; absolute ones are those of
// a program and its libraries.
func (r *reader) open(n *node) (*os.File, error) {
	var f *os.File
	var err error
	if filepath.IsAbs(n.host) {
		f, err = os.OpenFile(n.host, openFlags, 0)
	} else {
		f, err = r.root.OpenFile(n.host, openFlags, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", n.host, cause(err))
	}
	info, err := f.Stat()
	if err == nil {
		m := metaOf(info)
		if !m.mode.IsRegular() || m.size != n.size || m.mtime != n.mtime || m.ctime != n.ctime || m.ino != n.ino {
			err = errChanged
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("reading %s: %w", n.host, cause(err))
	}
	return f, nil
}
