package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"capstan/internal/capstanfile"
)

// walker looks at a directory of the host and all below it.
type walker struct {
	root   *os.Root
	ignore *capstanfile.Ignore // may be nil
	input  int
	from   string
	opts   Options

	slots chan struct{} // bounds how many directories are read at once
	group sync.WaitGroup
	mu    sync.Mutex
	err   error // the first, guarded by mu
	notes []string
}

// walk returns the directory at a path below the root as a node.
func (w *walker) walk(ctx context.Context, name string, m meta) (*node, error) {
	w.slots = make(chan struct{}, runtime.GOMAXPROCS(0)+1)
	n := &node{meta: meta{mode: m.mode}, children: map[string]*node{}, input: w.input, from: w.from}
	w.group.Add(1)
	w.directory(ctx, name, n)
	w.group.Wait()
	if w.err != nil {
		return nil, w.err
	}
	slices.Sort(w.notes)
	for _, note := range w.notes {
		w.opts.note(note)
	}
	return n, ctx.Err()
}

func (w *walker) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// directory fills a node with what a directory holds. Where there is a free
// slot, directories below it are read at the same time.
func (w *walker) directory(ctx context.Context, name string, n *node) {
	defer w.group.Done()
	entries, err := w.read(name)
	if err != nil {
		w.fail(fmt.Errorf("reading the directory %s: %w", name, cause(err)))
		return
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return
		}
		c, err := w.entry(path.Join(name, e.Name()), e)
		if err != nil {
			w.fail(err)
			return
		}
		if c == nil {
			continue
		}
		n.children[c.name] = c
		if !c.mode.IsDir() {
			continue
		}
		w.group.Add(1)
		select {
		case w.slots <- struct{}{}:
			go func() {
				defer func() { <-w.slots }()
				w.directory(ctx, c.host, c)
			}()
		default:
			w.directory(ctx, c.host, c)
		}
	}
}

func (w *walker) read(name string) ([]fs.DirEntry, error) {
	f, err := w.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// entry makes a node of one file, or nil if it is left out.
func (w *walker) entry(name string, e fs.DirEntry) (*node, error) {
	if w.ignore.Match(name) {
		w.ignored(name)
		return nil, nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s went away while it was looked at", name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, cause(err))
	}
	n := &node{meta: metaOf(info), name: e.Name(), host: name, input: w.input, from: w.from}
	switch n.mode.Type() {
	case fs.ModeDir:
		n.meta = meta{mode: n.mode} // the rest of it is not the layer's
		n.children = map[string]*node{}
	case fs.ModeSymlink:
		target, err := w.root.Readlink(name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, cause(err))
		}
		n.target = slashed(target)
	case 0, fs.ModeNamedPipe, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
	default:
		w.note(fmt.Sprintf("%s is left out: it is a %s", name, typeName(n.mode)))
		return nil, nil
	}
	return n, nil
}

// ignored notes what is left out though nobody asked for that.
func (w *walker) ignored(name string) {
	hidden := strings.HasPrefix(name, ".")
	if !hidden && w.ignore.Builtin(name) {
		w.note(fmt.Sprintf("%s is left out, as it always is", name))
	}
}

func (w *walker) note(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, s)
}

func typeName(m fs.FileMode) string {
	if m&fs.ModeSocket != 0 {
		return "socket"
	}
	return "file of no known type"
}

// cause returns what is below an error of the os package, whose own text
// would repeat the path.
func cause(err error) error {
	if pe, ok := err.(*fs.PathError); ok {
		return pe.Err
	}
	return err
}

// leadsOut reports whether an os.Root refused a path because it leads out of
// it. The package has no exported error for that.
func leadsOut(err error) bool {
	return err != nil && strings.Contains(cause(err).Error(), "path escapes from parent")
}
