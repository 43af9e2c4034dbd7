package source

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxLinks is how many symbolic links one path may lead through, as in Linux.
const maxLinks = 40

// meta is what is known of a file without reading it. Times are nanoseconds
// since 1970; what a host does not have is 0.
type meta struct {
	mode  fs.FileMode
	size  int64
	mtime int64
	ctime int64
	dev   uint64
	ino   uint64
	nlink uint64
	rdev  uint64
}

// node is one file of the guest.
type node struct {
	meta
	name     string
	children map[string]*node // of a directory
	target   string           // of a symbolic link
	host     string           // where the content is: see reader.open
	data     []byte           // the content, where it is not on the host
	input    int              // which input it is from: hard links do not cross them
	from     string           // that input, for messages
	// made tells a directory that no input has: it is there for what it holds.
	made bool
	// below tells a directory that the base has: it is not written again.
	below bool
}

// tree is the guest's file system as the inputs make it, one after the other.
type tree struct {
	top  *node
	base Base // may be nil
}

func newTree(base Base) *tree {
	top := newDir("", "")
	top.below = true // the root is always there
	return &tree{top: top, base: base}
}

func newDir(name, from string) *node {
	return &node{
		meta: meta{mode: fs.ModeDir | 0o755}, name: name, from: from,
		children: map[string]*node{}, made: true,
	}
}

// sorted returns a directory's children by name.
func (n *node) sorted() []*node {
	all := make([]*node, 0, len(n.children))
	for _, c := range n.children {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return all
}

// step is a walk along a guest path.
type step struct {
	t     *tree
	stack []*node // from the top to where it is
	links int
}

func (s *step) here() *node { return s.stack[len(s.stack)-1] }

func (s *step) path() string {
	names := make([]string, len(s.stack))
	for i, n := range s.stack {
		names[i] = n.name
	}
	return "/" + strings.TrimPrefix(path.Join(names...), "/")
}

// at returns what a directory holds under a name: a node of the tree, else
// what the base has there, as a node that is not in the tree. It returns nil
// if there is nothing.
func (s *step) at(name string) *node {
	if n := s.here().children[name]; n != nil {
		return n
	}
	if s.t.base == nil {
		return nil
	}
	typ, target, ok := s.t.base.Lookup(path.Join(s.path(), name))
	if !ok {
		return nil
	}
	if typ.IsDir() {
		n := newDir(name, "the base")
		n.below = true
		return n
	}
	return &node{meta: meta{mode: typ}, name: name, target: target, from: "the base", below: true}
}

// dir returns the directory at a guest path, with all symbolic links followed.
// With make, it makes what is missing; else it returns nil for it.
func (t *tree) dir(guest string, make bool, from string) (*step, error) {
	s := &step{t: t, stack: []*node{t.top}}
	return s, s.enter(guest, make, from)
}

// enter walks on along a path. A nil stack afterwards means that there is
// nothing.
func (s *step) enter(rest string, make bool, from string) error {
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			if len(s.stack) > 1 {
				s.stack = s.stack[:len(s.stack)-1]
			}
			continue
		}
		n := s.at(name)
		if n == nil && !make {
			s.stack = nil
			return nil
		}
		if n == nil {
			n = newDir(name, from)
		}
		switch {
		case n.mode.IsDir():
			s.here().children[name] = n
			s.stack = append(s.stack, n)
		case n.mode&fs.ModeSymlink != 0:
			if s.links++; s.links > maxLinks {
				return fmt.Errorf("%s: too many symbolic links", path.Join(s.path(), name))
			}
			if path.IsAbs(n.target) {
				s.stack = s.stack[:1]
			}
			rest = n.target + "/" + rest
		default:
			return fmt.Errorf("%s is a file in %s, not a directory", path.Join(s.path(), name), n.from)
		}
	}
	return nil
}

// find returns what is at a guest path in the tree, or nil.
func (t *tree) find(guest string) (*node, error) {
	for links := 0; links <= maxLinks; links++ {
		dir, name := path.Split(path.Clean("/" + guest))
		s, err := t.dir(dir, false, "")
		if err != nil || s.stack == nil {
			return nil, err
		}
		n := s.here().children[name]
		if n == nil || n.mode&fs.ModeSymlink == 0 {
			return n, nil
		}
		guest = n.target
		if !path.IsAbs(guest) {
			guest = path.Join(s.path(), guest)
		}
	}
	return nil, fmt.Errorf("%s: too many symbolic links", guest)
}

// put puts a node, with all below it, at a guest path.
func (t *tree) put(guest string, n *node) error {
	dir, name := path.Split(path.Clean(guest))
	s, err := t.dir(dir, true, n.from)
	if err != nil {
		return err
	}
	if name == "" {
		return s.merge(n)
	}
	n.name = name
	return s.place(n)
}

// place puts a node, with all below it, into the directory s is at.
func (s *step) place(n *node) error {
	if strings.HasPrefix(n.name, ".wh.") {
		return fmt.Errorf(`%s: names that begin with ".wh." mean deletions in a layer`, path.Join(s.path(), n.name))
	}
	old := s.at(n.name)
	if !n.mode.IsDir() {
		if old != nil && old.mode.IsDir() {
			return fmt.Errorf("%s is a directory in %s, and no directory in %s", path.Join(s.path(), n.name), old.from, n.from)
		}
		s.here().children[n.name] = n
		return nil
	}
	if old == nil {
		// As it stands, but for the names: place checks them.
		fresh := *n
		fresh.children = make(map[string]*node, len(n.children))
		old = &fresh
		s.here().children[n.name] = old
	}
	below := &step{t: s.t, stack: slices.Clone(s.stack), links: s.links}
	if err := below.enter(n.name, true, n.from); err != nil {
		return fmt.Errorf("%w, as it is in %s", err, n.from)
	}
	if d := below.here(); d.made && !d.below && !n.made {
		d.meta, d.made, d.from = n.meta, false, n.from
	}
	return below.merge(n)
}

// merge puts what a directory holds into the directory s is at.
func (s *step) merge(n *node) error {
	for _, c := range n.sorted() {
		if err := s.place(c); err != nil {
			return err
		}
	}
	return nil
}
