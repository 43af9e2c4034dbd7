package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"capstan/internal/capstanfile"
)

// FromCapstanfile plans the layer that a Capstanfile in a directory adds: the
// rootfs directory first, then the files, each upon the ones before. All
// mistakes are reported, as *capstanfile.Error where they have a line, joined
// in the order of their lines.
func FromCapstanfile(ctx context.Context, dir string, f *capstanfile.File, opts Options) (*Layer, error) {
	root, ignore, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b := &builder{
		ctx: ctx, root: root, file: f, ignore: ignore, opts: opts,
		tree: newTree(opts.Base),
	}
	b.rootfs()
	for _, c := range f.Files {
		if err := b.copy(c); err != nil {
			b.mistake(c.Line, c.Key(), err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(b.mistakes, func(x, y *capstanfile.Error) int { return x.Line - y.Line })
	errs := make([]error, len(b.mistakes))
	for i, m := range b.mistakes {
		errs[i] = m
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Layer{Kind: Capstanfile, dir: dir, top: b.tree.top, note: opts.note}, nil
}

// FromDirectory plans a layer of all that a directory holds.
func FromDirectory(ctx context.Context, dir string, opts Options) (*Layer, error) {
	root, ignore, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	w := &walker{root: root, ignore: ignore, from: dir, opts: opts}
	n, err := w.walk(ctx, ".", meta{mode: fs.ModeDir | 0o755})
	if err != nil {
		return nil, err
	}
	t := newTree(opts.Base)
	if err := t.put("/", n); err != nil {
		return nil, err
	}
	return &Layer{Kind: Directory, dir: dir, top: t.top, note: opts.note}, nil
}

// builder puts together what a Capstanfile names.
type builder struct {
	ctx      context.Context
	root     *os.Root
	file     *capstanfile.File
	ignore   *capstanfile.Ignore
	opts     Options
	tree     *tree
	inputs   int
	mistakes []*capstanfile.Error
}

func (b *builder) mistake(line int, key string, err error) {
	b.mistakes = append(b.mistakes, b.file.Mistake(line, key, err.Error()))
}

// rootfs copies the rootfs directory to /.
func (b *builder) rootfs() {
	name, line := b.file.Rootfs, b.file.Line("rootfs")
	if name == "" {
		name = capstanfile.DefaultRootfs
		if _, err := b.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	info, err := b.stat(slashed(name))
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", name)
	}
	if err == nil {
		err = b.directory(slashed(name), "/", metaOf(info), "rootfs")
	}
	if err != nil {
		b.mistake(line, "rootfs", err)
	}
}

// stat looks at what an input names, through symbolic links that stay in the
// build directory.
func (b *builder) stat(name string) (fs.FileInfo, error) {
	info, err := b.root.Stat(name)
	switch {
	case err == nil:
		return info, nil
	case leadsOut(err):
		return nil, outError(name)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s does not exist", name)
	default:
		return nil, fmt.Errorf("reading %s: %w", name, cause(err))
	}
}

func outError(name string) error {
	return fmt.Errorf("%s leads out of the build directory by a symbolic link", name)
}

// copy adds one entry of the key files: a file, a directory or a glob.
func (b *builder) copy(c capstanfile.Copy) error {
	name := slashed(c.Host)
	_, err := b.root.Lstat(name)
	if err != nil && strings.ContainsAny(name, `*?[{`) {
		return b.glob(c, name)
	}
	info, err := b.stat(name)
	if err != nil {
		return err
	}
	guest := c.Guest
	if c.Into && !info.IsDir() {
		guest = path.Join(guest, path.Base(name))
	}
	return b.add(name, guest, info, c.Key())
}

// glob adds what a pattern matches, below the guest directory and under the
// names that follow the part of the pattern that has no wildcard.
func (b *builder) glob(c capstanfile.Copy, pattern string) error {
	if !doublestar.ValidatePattern(pattern) {
		return fmt.Errorf("%s is not a valid pattern", pattern)
	}
	fixed, _ := doublestar.SplitPattern(pattern)
	found, err := doublestar.Glob(b.root.FS(), pattern, doublestar.WithNoFollow(), doublestar.WithFailOnIOErrors())
	if leadsOut(err) {
		return outError(pattern)
	}
	if err != nil {
		return fmt.Errorf("looking for %s: %w", pattern, cause(err))
	}
	slices.Sort(found)
	added, last := 0, "\x00"
	for _, name := range found {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		// What a matching directory holds comes with it.
		if b.ignore.MatchTree(name) || strings.HasPrefix(name, last+"/") {
			continue
		}
		info, err := b.root.Lstat(name)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, cause(err))
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, fixed), "/")
		if err := b.add(name, path.Join(c.Guest, rel), info, c.Key()); err != nil {
			return err
		}
		added++
		if info.IsDir() {
			last = name
		}
	}
	if added == 0 {
		return fmt.Errorf("%s matches nothing", pattern)
	}
	return nil
}

// add adds a file or a directory that an input names.
func (b *builder) add(name, guest string, info fs.FileInfo, from string) error {
	m := metaOf(info)
	if m.mode.IsDir() {
		return b.directory(name, guest, m, from)
	}
	b.inputs++
	n := &node{meta: m, host: name, input: b.inputs, from: from}
	switch m.mode.Type() {
	case 0, fs.ModeNamedPipe, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
	case fs.ModeSymlink:
		target, err := b.root.Readlink(name)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, cause(err))
		}
		n.target = slashed(target)
	default:
		return fmt.Errorf("%s is a %s", name, typeName(m.mode))
	}
	return b.tree.put(guest, n)
}

// directory adds a directory and all below it.
func (b *builder) directory(name, guest string, m meta, from string) error {
	b.inputs++
	w := &walker{root: b.root, ignore: b.ignore, input: b.inputs, from: from, opts: b.opts}
	n, err := w.walk(b.ctx, name, m)
	if err != nil {
		return err
	}
	return b.tree.put(guest, n)
}

// openDir opens a directory to build from, and reads what it ignores.
func openDir(dir string) (*os.Root, *capstanfile.Ignore, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("opening %s: %w", dir, cause(err))
	}
	ignore, err := capstanfile.ReadIgnore(filepath.Join(dir, capstanfile.IgnoreName))
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	return root, ignore, nil
}
