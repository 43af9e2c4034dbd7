package rofs

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Source is a sequence of files in the form of tar entries: directories, files,
// symbolic and hard links. It can be read again, and is the same then.
type Source struct {
	Name string // for messages: "the package osv.cli"
	// Each calls each for all entries in order. An entry's content need not be
	// read to its end, and is gone afterwards.
	Each func(ctx context.Context, each func(h *tar.Header, content io.Reader) error) error
}

// Tree is what sources make, each laid upon those before it: a later file takes
// the place of an earlier one, directories are joined.
type Tree struct {
	sources []Source
	top     *node
	files   []*content // that are in the tree, in the order in which sources have them
	tables  tables
}

// node is a name in the tree.
type node struct {
	name     string
	source   int // that has it
	children map[string]*node
	target   string
	content  *content // of a file; hard links share it
	inode    int      // its number
	index    int      // of a directory, its first entry; of a symbolic link, its place in their table
}

func (n *node) isDir() bool { return n.children != nil }

func (n *node) kind() string {
	switch {
	case n.isDir():
		return "a directory"
	case n.content == nil:
		return "a symbolic link"
	}
	return "a file"
}

// sorted are a directory's children by name.
func (n *node) sorted() []*node {
	all := make([]*node, 0, len(n.children))
	for _, c := range n.children {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *node) int { return cmp.Compare(a.name, b.name) })
	return all
}

// content is a file's, and where it comes from.
type content struct {
	source, entry int
	path          string
	size          int64
	block         int64 // 0: it is not in the tree
}

// Plan reads the names and sizes of all that the sources have.
func Plan(ctx context.Context, sources ...Source) (*Tree, error) {
	t := &Tree{sources: sources, top: &node{children: map[string]*node{}}}
	p := planner{tree: t}
	for n, s := range sources {
		p.source, p.entry = n, 0
		err := s.Each(ctx, func(h *tar.Header, _ io.Reader) error {
			p.entry++
			if err := ctx.Err(); err != nil {
				return err
			}
			return p.add(h)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return t, t.layOut()
}

// planner puts entries into a tree.
type planner struct {
	tree          *Tree
	source, entry int
	all           int   // files and directories so far
	size          int64 // of all content so far
}

func (p *planner) add(h *tar.Header) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		_, err := p.dir(name)
		return err
	}
	if err := p.count(); err != nil {
		return err
	}
	fresh := &node{source: p.source}
	switch h.Typeflag {
	case tar.TypeReg:
		if p.size += h.Size; h.Size < 0 || p.size > maxContent {
			return &Error{fmt.Sprintf("there are more than %d GiB of files, which is the bound", maxContent>>30), "fewer files: those that the application needs"}
		}
		fresh.content = &content{source: p.source, entry: p.entry, path: name, size: h.Size}
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= maxPath || strings.ContainsRune(h.Linkname, 0) {
			return bad(name, "has a target that no symbolic link can have")
		}
		fresh.target = h.Linkname
	case tar.TypeLink:
		if fresh.content, err = p.linked(name, h.Linkname); err != nil {
			return err
		}
	default:
		return &Error{clip(name) + " is neither a file, a directory nor a link, and OSv's file system has no other", "leave it out: a line in .capstanignore"}
	}
	return p.place(name, fresh)
}

// count counts a file or a directory.
func (p *planner) count() error {
	if p.all++; p.all > maxEntries {
		return &Error{fmt.Sprintf("there are more than %d files and directories, which is the bound", maxEntries), "fewer files: those that the application needs"}
	}
	return nil
}

// linked is the content that a hard link shares.
func (p *planner) linked(name, target string) (*content, error) {
	target, err := cleanName(target)
	if err != nil {
		return nil, err
	}
	n := p.tree.top
	for element := range strings.SplitSeq(target, "/") {
		if n = n.children[element]; n == nil {
			return nil, bad(name, "is a hard link to "+target+", which is not there")
		}
	}
	if n.content == nil {
		return nil, bad(name, "is a hard link to "+target+", which is "+n.kind())
	}
	return n.content, nil
}

// place puts a node at a path, in the place of what is there.
func (p *planner) place(name string, n *node) error {
	if name == "." {
		return bad(name, "is the root, which is a directory")
	}
	parent, base := path.Split(name)
	dir, err := p.dir(path.Clean(parent))
	if err != nil {
		return err
	}
	if old := dir.children[base]; old != nil && old.isDir() {
		return p.clash(name, old, n.kind())
	}
	n.name = base
	dir.children[base] = n
	return nil
}

// dir returns the directory at a path, and makes it where it is missing. All
// that it makes counts: one name can have two thousand directories in it.
func (p *planner) dir(name string) (*node, error) {
	n := p.tree.top
	if name == "." {
		return n, nil
	}
	for at, element := range elements(name) {
		next := n.children[element]
		if next == nil {
			if err := p.count(); err != nil {
				return nil, err
			}
			next = &node{name: element, source: p.source, children: map[string]*node{}}
			n.children[element] = next
		}
		if !next.isDir() {
			return nil, p.clash(at, next, "a directory")
		}
		n = next
	}
	return n, nil
}

// elements yields the paths that a path leads through, with their last names.
func elements(name string) func(yield func(at, element string) bool) {
	return func(yield func(at, element string) bool) {
		for end, start := 0, 0; end <= len(name); end++ {
			if end < len(name) && name[end] != '/' {
				continue
			}
			if !yield(name[:end], name[start:end]) {
				return
			}
			start = end + 1
		}
	}
}

func (p *planner) clash(name string, old *node, kind string) error {
	where := p.tree.sources[old.source].Name
	if old.source == p.source {
		return bad(name, fmt.Sprintf("is %s, and then %s", old.kind(), kind))
	}
	return bad(name, fmt.Sprintf("is %s here, and %s in %s", kind, old.kind(), where))
}

// bad is an entry that makes no sense.
func bad(name, what string) error {
	return &Error{fmt.Sprintf("%s %s", clip(name), what), "make it anew, or ask whoever made it"}
}

// cleanName checks an entry's name. Old archives begin theirs with a slash.
func cleanName(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	switch {
	case len(clean) >= maxPath:
		return "", bad(name, "is longer than a path can be")
	case strings.ContainsRune(clean, 0):
		return "", bad(name, "has a zero byte in it")
	}
	for element := range strings.SplitSeq(strings.TrimRight(name, "/"), "/") {
		if element == ".." {
			return "", bad(name, "leads upwards")
		}
		if len(element) > maxName {
			return "", bad(name, fmt.Sprintf("has a name of more than %d bytes in it", maxName))
		}
	}
	return clean, nil
}

// clip shortens what an error repeats, and keeps it on its line.
func clip(name string) string {
	if len(name) > 100 {
		name = name[:100] + "…"
	}
	return fmt.Sprintf("%q", name)
}

// Entries yields all that is in the tree but the root, parents first, sorted.
func (t *Tree) Entries() func(yield func(Entry) bool) {
	return func(yield func(Entry) bool) { walk(t.top, "", yield) }
}

func walk(dir *node, at string, yield func(Entry) bool) bool {
	for _, n := range dir.sorted() {
		e := Entry{Path: path.Join(at, n.name), Target: n.target}
		switch {
		case n.isDir():
			e.Type = fs.ModeDir
		case n.content != nil:
			e.Size, e.block = n.content.size, n.content.block
		default:
			e.Type = fs.ModeSymlink
		}
		if !yield(e) || n.isDir() && !walk(n, e.Path, yield) {
			return false
		}
	}
	return true
}

// errChanged is a source that is not what it was when it was read before.
var errChanged = errors.New("it changed while the image was made")

// Contents calls each for the content of each file, in the order in which the
// sources have them; of a file with several names, for the first that was
// planned. What each does not read is left out.
func (t *Tree) Contents(ctx context.Context, each func(e Entry, content io.Reader) error) error {
	rest := t.files
	for n, s := range t.sources {
		entry := 0
		err := s.Each(ctx, func(h *tar.Header, r io.Reader) error {
			entry++
			if err := ctx.Err(); err != nil {
				return err
			}
			if len(rest) == 0 || rest[0].source != n || rest[0].entry != entry {
				return nil
			}
			c := rest[0]
			rest = rest[1:]
			if name, err := cleanName(h.Name); err != nil || name != c.path || h.Typeflag != tar.TypeReg || h.Size != c.size {
				return errChanged
			}
			return each(Entry{Path: c.path, Size: c.size, block: c.block}, &contextReader{ctx, r})
		})
		if err == nil && len(rest) > 0 && rest[0].source == n {
			err = errChanged
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
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
