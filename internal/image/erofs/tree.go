package erofs

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Bounds on following symbolic links on the way to an entry: Linux's own, and
// two on the work, because a few links can stand for thousands of components.
const (
	maxFollowed = 40
	maxSteps    = 1024
	maxTargets  = 2 * maxTargetLen // bytes of all targets together
)

// What an entry takes in memory, without its strings: all, and directories
// beyond that.
const (
	nodeCost = 200
	dirCost  = 400
)

// node is a name in a directory.
type node struct {
	name  string
	layer int    // the layer that added or replaced it
	ino   *inode // nil for a directory
	dir   *dir   // nil for all else
}

// inode is an entry that is in the image already. Several nodes may share it.
type inode struct {
	nid    uint64
	nlink  uint32 // what it is now
	stored uint32 // what stands in the image
	mode   uint16
	target string // of a symbolic link
	data   extent
}

// dir is a directory. It is written by Close.
type dir struct {
	parent   *dir // of the root: itself
	children map[string]*node
	depth    int
	swept    int // the layer in which all lower entries below were removed

	mode     uint16
	uid, gid uint32
	sec      int64
	nsec     uint32
	xattrs   []xattr

	place dirPlace
}

// cost is the memory that goes with the node.
func (n *node) cost() int64 {
	c := nodeCost + int64(len(n.name))
	if n.dir == nil {
		return c + int64(len(n.ino.target))
	}
	c += dirCost
	for _, x := range n.dir.xattrs {
		c += x.size()
	}
	return c
}

// splitName cuts a name into its components. The root has none.
func splitName(name string) ([]string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return nil, ErrName
	}
	parts := make([]string, 0, strings.Count(name, "/")+1)
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return nil, ErrName
		case len(part) > maxNameLen:
			return nil, &LimitError{"bytes of a name", maxNameLen}
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// splitEntry is splitName for a name that must not be the root.
func splitEntry(name string) (parents []string, base string, err error) {
	parts, err := splitName(name)
	if err != nil {
		return nil, "", err
	}
	if len(parts) == 0 {
		return nil, "", ErrName
	}
	return parts[:len(parts)-1], parts[len(parts)-1], nil
}

// walk finds the directory that parts lead to, symbolic links followed as a
// process would whose root is the image's. With create, what is missing, or is
// not a directory, is made one; else the error wraps fs.ErrNotExist.
func (w *Writer) walk(parts []string, create bool) (*dir, error) {
	cur, followed, targets := w.root, 0, 0
	for step := 0; len(parts) > 0; step++ {
		if step > maxSteps {
			return nil, ErrLoop
		}
		name := parts[0]
		parts = parts[1:]
		if name == ".." {
			cur = cur.parent
			continue
		}
		child := cur.children[name]
		switch {
		case child != nil && child.dir != nil:
			cur = child.dir
		case child != nil && child.ino.mode&modeFmt == modeSymlink:
			target := child.ino.target
			followed, targets = followed+1, targets+len(target)
			if followed > maxFollowed || targets > maxTargets {
				return nil, ErrLoop
			}
			if target[0] == '/' {
				cur = w.root
			}
			parts = append(splitTarget(target), parts...)
		case !create:
			return nil, fs.ErrNotExist
		default:
			missing := &dir{mode: modeDir | 0o755}
			if cur.mode&modeSetgid != 0 { // is inherited, with the group, as by mkdir
				missing.mode, missing.gid = missing.mode|modeSetgid, cur.gid
			}
			made, err := w.put(cur, name, &node{dir: missing})
			if err != nil {
				return nil, err
			}
			cur = made.dir
		}
	}
	return cur, nil
}

// splitTarget cuts a symbolic link's target into components, ".." included.
func splitTarget(target string) []string {
	return slices.DeleteFunc(strings.Split(target, "/"), func(s string) bool {
		return s == "" || s == "."
	})
}

// put makes n the entry of that name in d, in place of what is there.
func (w *Writer) put(d *dir, name string, n *node) (*node, error) {
	if int64(d.depth) >= w.opts.MaxDepth {
		return nil, &LimitError{"directories above an entry", w.opts.MaxDepth}
	}
	if len(name) > maxNameLen { // from a symbolic link's target
		return nil, &LimitError{"bytes of a name", maxNameLen}
	}
	if w.added >= w.opts.MaxEntries {
		return nil, &LimitError{"entries", w.opts.MaxEntries}
	}
	n.name, n.layer = strings.Clone(name), w.layer
	if err := w.charge(n.cost()); err != nil {
		return nil, err
	}
	w.added++
	w.drop(d, name)
	if n.dir != nil {
		n.dir.parent, n.dir.depth, n.dir.swept = d, d.depth+1, w.layer
		w.inodes++
	}
	if d.children == nil {
		d.children = make(map[string]*node)
	}
	d.children[n.name] = n
	return n, nil
}

// charge accounts for memory that the tree is to take.
func (w *Writer) charge(n int64) error {
	if w.memory+n > w.opts.MaxMetadata {
		return &LimitError{"bytes of metadata in memory", w.opts.MaxMetadata}
	}
	w.memory += n
	return nil
}

// drop removes the entry of that name from d, with all below it.
func (w *Writer) drop(d *dir, name string) {
	n := d.children[name]
	if n == nil {
		return
	}
	delete(d.children, name)
	w.memory -= n.cost()
	if n.dir != nil {
		for _, name := range n.dir.names() {
			w.drop(n.dir, name)
		}
		w.inodes--
		return
	}
	w.unlink(n.ino)
}

// unlink takes one name from an inode; without names, its blocks are free.
func (w *Writer) unlink(ino *inode) {
	if ino.nlink--; ino.nlink > 0 {
		return
	}
	w.inodes--
	w.space.release(ino.data)
}

// names gives the names in d, sorted: nothing may depend on a map's order.
func (d *dir) names() []string {
	return slices.Sorted(maps.Keys(d.children))
}

// sweep removes what layers below the present one put into d. Directories
// that hold entries of the present layer stay.
func (w *Writer) sweep(d *dir) {
	if d.swept == w.layer {
		return
	}
	d.swept = w.layer
	for _, name := range d.names() {
		w.sweepNode(d, d.children[name])
	}
}

// sweepNode is sweep for one entry of d.
func (w *Writer) sweepNode(d *dir, n *node) {
	if n.dir != nil {
		w.sweep(n.dir)
	}
	if n.layer < w.layer && (n.dir == nil || len(n.dir.children) == 0) {
		w.drop(d, n.name)
	}
}

// BeginLayer starts a new layer: all entries up to now are below it.
func (w *Writer) BeginLayer() { w.layer++ }

// Whiteout removes the entry of that name, with all below it, as far as it
// comes from the layers below the present one. A missing entry is no error.
func (w *Writer) Whiteout(name string) error {
	if err := w.check(); err != nil {
		return err
	}
	parents, base, err := splitEntry(name)
	if err != nil {
		return fmt.Errorf("whiteout of %.200q: %w", name, err)
	}
	d, err := w.lookup(parents)
	if err != nil {
		return fmt.Errorf("whiteout of %.200q: %w", name, err)
	}
	if d != nil && d.children[base] != nil {
		w.sweepNode(d, d.children[base])
	}
	return nil
}

// Opaque removes all below the directory of that name that comes from the
// layers below the present one. A missing directory is no error.
func (w *Writer) Opaque(name string) error {
	if err := w.check(); err != nil {
		return err
	}
	parts, err := splitName(name)
	if err != nil {
		return fmt.Errorf("opaque directory %.200q: %w", name, err)
	}
	d, err := w.lookup(parts)
	if err != nil {
		return fmt.Errorf("opaque directory %.200q: %w", name, err)
	}
	if d != nil {
		w.sweep(d)
	}
	return nil
}

// Remove removes the entry of that name, with all below it, whatever layer it
// comes from. A missing entry is no error.
func (w *Writer) Remove(name string) error {
	if err := w.check(); err != nil {
		return err
	}
	parents, base, err := splitEntry(name)
	if err != nil {
		return fmt.Errorf("removing %.200q: %w", name, err)
	}
	d, err := w.lookup(parents)
	if err != nil {
		return fmt.Errorf("removing %.200q: %w", name, err)
	}
	if d != nil {
		w.drop(d, base)
	}
	return nil
}

// lookup is walk that gives nil for a directory that does not exist.
func (w *Writer) lookup(parts []string) (*dir, error) {
	d, err := w.walk(parts, false)
	if err == fs.ErrNotExist {
		return nil, nil
	}
	return d, err
}
