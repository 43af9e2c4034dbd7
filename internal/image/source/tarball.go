package source

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"capstan/internal/image/decompress"
)

// Bounds on a tar, against archives that are made to be endless.
const (
	maxEntries  = 4 << 20
	maxContent  = 1 << 40 // bytes
	maxPath     = 4096    // PATH_MAX
	maxElement  = 255     // NAME_MAX
	maxTrailing = 64 << 20
)

// tarball is a tar on the host.
type tarball struct {
	name string
	meta meta
}

// FromTar plans a layer of a tar, plain or compressed by gzip or zstd. Its
// entries keep their order, owners and attributes. They are checked while the
// layer is written: names that leave the root or mean deletions, entries
// below what is no directory, files that come twice, and links to what is not
// there are refused.
func FromTar(name string, opts Options) (*Layer, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: not a regular file", name)
	}
	return &Layer{Kind: Tar, tar: &tarball{name, metaOf(info)}, note: opts.note}, nil
}

// write copies the archive.
func (t *tarball) write(ctx context.Context, w io.Writer, note func(string)) error {
	f, err := os.Open(t.name)
	if err != nil {
		return fmt.Errorf("reading %s: %w", t.name, cause(err))
	}
	defer f.Close()
	in, err := decompress.NewReader(&contextReader{ctx, f})
	if err != nil {
		return fmt.Errorf("reading %s: %w", t.name, err)
	}
	defer in.Close()
	out := bufio.NewWriterSize(w, 256<<10)
	c := &tarCopy{
		in: &countReader{r: in}, out: tar.NewWriter(out), note: note,
		room: maxContent, seen: map[string]byte{}, buf: make([]byte, 256<<10),
	}
	if err := c.all(ctx); err != nil {
		return fmt.Errorf("reading %s: %w", t.name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("reading %s: %w", t.name, cause(err))
	}
	if m := metaOf(info); m.size != t.meta.size || m.mtime != t.meta.mtime || m.ino != t.meta.ino {
		return fmt.Errorf("reading %s: %w", t.name, errChanged)
	}
	if err := c.out.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// countReader counts what is read through it.
type countReader struct {
	r io.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// tarCopy copies the entries of one archive to another, and checks them.
type tarCopy struct {
	in      *countReader
	out     *tar.Writer
	note    func(string)
	seen    map[string]byte // type of each name; tarMade for made directories
	entries int
	room    int64 // bytes of content that may still come
	dropped bool  // attributes were, and that has been noted
	buf     []byte
}

// tarMade is the type of a directory that the archive has not, or not yet.
const tarMade = 0

func (c *tarCopy) all(ctx context.Context) error {
	in := tar.NewReader(c.in)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		before := c.in.n
		h, err := in.Next()
		if err == io.EOF {
			return c.end(c.in.n - before)
		}
		if err != nil {
			return err
		}
		if c.entries++; c.entries > maxEntries {
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		if err := c.entry(h, in); err != nil {
			return fmt.Errorf("entry %q: %w", clip(h.Name), err)
		}
	}
}

// end checks that the archive ends as archives do, with an empty block behind
// the last entry, and reads what follows, so that a compressed one is checked
// to its last byte. It is told how many bytes were read behind the last entry.
func (c *tarCopy) end(read int64) error {
	const block = 512
	if read < block {
		if c.entries == 0 {
			return errors.New("not a tar")
		}
		return errors.New("truncated: the end of the archive is missing")
	}
	n, err := io.CopyBuffer(io.Discard, io.LimitReader(c.in, maxTrailing), c.buf)
	if err == nil && n == maxTrailing {
		err = errors.New("too much follows the end of the archive")
	}
	return err
}

func (c *tarCopy) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // git archive's commit, for one
	}
	name, err := cleanName(h.Name)
	if err != nil || name == "" {
		return err // the root itself keeps its mode
	}
	if name == "oci-layout" {
		return errors.New("this is a saved image, not a root file system, such as docker export writes")
	}
	out, err := c.header(h, name)
	if err != nil {
		return err
	}
	if c.room -= out.Size; c.room < 0 {
		return errors.New("the archive holds more than 1 TiB")
	}
	if err := c.place(name, out.Typeflag); err != nil {
		return err
	}
	if err := c.out.WriteHeader(out); err != nil {
		return err
	}
	if out.Typeflag != tar.TypeReg {
		return nil
	}
	_, err = io.CopyBuffer(c.out, content, c.buf)
	return err
}

// header returns the header to write for one that was read.
func (c *tarCopy) header(h *tar.Header, name string) (*tar.Header, error) {
	const maxID = 1<<32 - 2
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return nil, fmt.Errorf("its owner %d:%d is out of range", h.Uid, h.Gid)
	}
	out := &tar.Header{
		Format: tar.FormatPAX, Typeflag: h.Typeflag, Name: name, Mode: h.Mode & 0o7777,
		Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime.UTC().Truncate(time.Second),
		PAXRecords: c.attributes(h.PAXRecords),
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		// Sparse files come with their holes as zeros.
		out.Typeflag, out.Size = tar.TypeReg, h.Size
	case tar.TypeDir:
		out.Name += "/"
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= maxPath {
			return nil, errors.New("a symbolic link with no usable target")
		}
		out.Linkname = h.Linkname
	case tar.TypeLink:
		target, err := cleanName(h.Linkname)
		if err != nil {
			return nil, fmt.Errorf("the hard link's target %q: %w", clip(h.Linkname), err)
		}
		if typ, ok := c.seen[target]; !ok || typ == tar.TypeDir || typ == tarMade || target == name {
			return nil, fmt.Errorf("a hard link to %q, which is no earlier file", clip(h.Linkname))
		}
		out.Linkname = target
	case tar.TypeChar, tar.TypeBlock:
		out.Devmajor, out.Devminor = h.Devmajor, h.Devminor
	case tar.TypeFifo:
	default:
		return nil, fmt.Errorf("an entry of the unknown type %q", h.Typeflag)
	}
	return out, nil
}

// attributes keeps the extended attributes that mean in the guest what they
// meant where the archive was made. Those of overlayfs would be taken for the
// guest's own, and labels are for a policy that the guest does not have.
func (c *tarCopy) attributes(records map[string]string) map[string]string {
	const prefix = "SCHILY.xattr."
	kept := map[string]string{}
	for key, value := range records {
		name, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		switch {
		case name == "security.capability",
			strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay."),
			strings.HasPrefix(name, "system.posix_acl_"):
			kept[key] = value
		case !c.dropped:
			c.dropped = true
			c.note(fmt.Sprintf("the extended attribute %s, and others like it, are left out", clip(name)))
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// place takes note of a name, and makes the directories above it that the
// archive has not had yet.
func (c *tarCopy) place(name string, typ byte) error {
	for i := range name {
		if name[i] != '/' {
			continue
		}
		above := name[:i]
		switch t, ok := c.seen[above]; {
		case !ok:
			c.seen[above] = tarMade
			h := &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeDir, Name: above + "/", Mode: 0o755, ModTime: time.Unix(0, 0).UTC()}
			if err := c.out.WriteHeader(h); err != nil {
				return err
			}
		case t != tar.TypeDir && t != tarMade:
			return fmt.Errorf("it lies below %q, which is no directory", clip(above))
		}
	}
	old, ok := c.seen[name]
	both := typ == tar.TypeDir && (old == tar.TypeDir || old == tarMade)
	if ok && !both {
		return errors.New("it comes twice")
	}
	c.seen[name] = typ
	return nil
}

// cleanName checks a name and returns it relative to the root, "" for the
// root itself.
func cleanName(name string) (string, error) {
	if len(name) >= maxPath {
		return "", errors.New("the name is longer than 4095 bytes")
	}
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "..":
			return "", errors.New(`the name has ".." in it`)
		case strings.HasPrefix(element, ".wh."):
			return "", errors.New(`names that begin with ".wh." mean deletions in a layer: this is a layer, not a root file system`)
		case len(element) > maxElement:
			return "", errors.New("the name has a part of more than 255 bytes")
		}
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

// clip shortens a name to what fits into a message.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
