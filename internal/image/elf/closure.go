package elf

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxObjects bounds how many libraries a program may lead to.
const maxObjects = 4096

// Options say where a program is to be and where its libraries come from.
type Options struct {
	// Guest is the absolute path of the program in the guest. Where it is
	// empty, the program keeps its path in the sysroot.
	Guest string
	// Sysroot is the directory that stands for the root of the system whose
	// libraries are taken. Where it is empty, that is the host's own root.
	Sysroot string
}

// Closure is all that a program needs.
type Closure struct {
	Arch    string  // "amd64" or "arm64"
	Program string  // guest path of the program
	Interp  string  // guest path of the loader; "" for a static program
	Entries []Entry // sorted by Guest; parent directories are implied
}

// Entry is one file or symbolic link of the guest. One of Host, Target and
// Data is set.
type Entry struct {
	Guest  string
	Host   string // regular file to copy
	Target string // of a symbolic link
	Data   []byte // of a file that is written rather than copied; its mode is 0644
}

// MissingError is returned for a library, or a loader, that is not there.
type MissingError struct {
	Library  string
	NeededBy string   // host path
	Searched []string // directories; empty where Library is a path
}

func (e *MissingError) Error() string {
	if len(e.Searched) == 0 {
		return fmt.Sprintf("%s, needed by %s, does not exist", e.Library, e.NeededBy)
	}
	return fmt.Sprintf("shared library %s, needed by %s, is not in %s",
		e.Library, e.NeededBy, strings.Join(e.Searched, ", "))
}

// Hint returns the way out.
func (e *MissingError) Hint() string {
	return "link the program statically, install what is missing, " +
		"or build from a directory that holds all that the program needs"
}

// ScriptError is returned for a program that is a script.
type ScriptError struct {
	Path        string
	Interpreter string // its first line without "#!"
}

func (e *ScriptError) Error() string {
	return fmt.Sprintf("%s is a script for %s, not a program", e.Path, e.Interpreter)
}

// Hint returns the way out.
func (e *ScriptError) Hint() string {
	return "put it and its interpreter into a directory and build from that, " +
		"or name a base image that has the interpreter in a Capstanfile"
}

// loaded is an object with its place on the host and in the guest.
type loaded struct {
	*Object
	root   sysroot // where path is
	system sysroot // where absolute search paths are
	path   string  // as the loader would have opened it
	guest  string
	parent *loaded // what made the loader load it; nil for the program
}

func (o *loaded) host() string { return o.root.host(o.path) }

// Resolve finds all that the program at a host path needs.
func Resolve(program string, opts Options) (*Closure, error) {
	if opts.Sysroot == "" {
		opts.Sysroot = string(filepath.Separator)
	}
	c := &closer{
		system:  sysroot(opts.Sysroot),
		entries: map[string]Entry{},
		names:   map[string]*loaded{},
	}
	main, err := c.program(program, opts)
	if err != nil {
		return nil, err
	}
	result := &Closure{Arch: main.Arch, Program: main.guest, Interp: main.Interp}
	if opts.Guest == "" {
		result.Program = c.asked
	}
	if main.Interp != "" {
		if err := c.loader(main); err != nil {
			return nil, err
		}
		if err := c.libraries(main); err != nil {
			return nil, err
		}
		if err := c.libcData(main); err != nil {
			return nil, err
		}
	}
	for _, e := range c.entries {
		result.Entries = append(result.Entries, e)
	}
	slices.SortFunc(result.Entries, func(a, b Entry) int { return cmp.Compare(a.Guest, b.Guest) })
	return result, nil
}

// closer collects a closure.
type closer struct {
	system  sysroot
	interp  string
	asked   string // the program's path as the caller named it, in the sysroot
	dirs    []dir  // the loader's own search path
	entries map[string]Entry
	names   map[string]*loaded // by the names that the loader knows them by
	order   []*loaded
	cached  map[string]string // what belongs into ld.so.cache: name to guest path
}

// program reads the program itself.
func (c *closer) program(name string, opts Options) (*loaded, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	// A program outside the sysroot is looked at where it is: its $ORIGIN is
	// there, while its system libraries are in the sysroot.
	root := sysroot(filepath.VolumeName(abs) + string(filepath.Separator))
	if rel, err := filepath.Rel(string(c.system), abs); err == nil && filepath.IsLocal(rel) {
		root = c.system
	}
	rel, err := filepath.Rel(string(root), abs)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	c.asked = "/" + filepath.ToSlash(rel)
	at, links, err := root.resolve(c.asked)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, cause(err))
	}
	o, err := readProgram(name, root.host(at))
	if err != nil {
		return nil, err
	}
	main := &loaded{Object: o, root: root, system: c.system, path: at, guest: at}
	if opts.Guest != "" {
		main.guest = path.Clean(opts.Guest)
		links = nil
	}
	c.names[path.Base(main.guest)] = main
	return main, c.add(main, main.guest, at, links)
}

// readProgram parses what must be a program. The name is for messages.
func readProgram(name, host string) (*Object, error) {
	f, err := openRegular(host)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, cause(err))
	}
	defer f.Close()
	start, err := bufio.NewReaderSize(f, 256).Peek(256)
	if len(start) == 0 && err != nil {
		return nil, fmt.Errorf("reading %s: %w: it is empty", name, ErrNotELF)
	}
	if line, ok := strings.CutPrefix(string(start), "#!"); ok {
		line, _, _ = strings.Cut(line, "\n")
		return nil, &ScriptError{Path: name, Interpreter: strings.TrimSpace(line)}
	}
	o, err := parseFile(f)
	if err == nil {
		err = o.Program()
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return o, nil
}

// loader adds the program's loader.
func (c *closer) loader(main *loaded) error {
	at, links, err := c.system.resolve(main.Interp)
	if err != nil {
		return &MissingError{Library: "the loader " + main.Interp, NeededBy: main.host()}
	}
	o, err := c.system.object(at)
	if err != nil {
		return fmt.Errorf("reading the loader %s: %w", c.system.host(at), cause(err))
	}
	if o.Arch != main.Arch {
		return fmt.Errorf("the loader %s is for %s, but %s is for %s", c.system.host(at), o.Arch, main.host(), main.Arch)
	}
	l := &loaded{Object: o, root: c.system, system: c.system, path: main.Interp, guest: main.Interp}
	c.names[path.Base(main.Interp)] = l
	if o.Soname != "" {
		c.names[o.Soname] = l
	}
	c.interp = main.Interp
	c.dirs = systemDirs(c.system, main.Arch, main.Interp)
	c.cached = map[string]string{}
	return c.add(l, at, at, links)
}

// libraries adds what an object needs, breadth first, as the loader does.
func (c *closer) libraries(from *loaded) error {
	queue := []*loaded{from}
	for len(queue) > 0 {
		o := queue[0]
		queue = queue[1:]
		for _, name := range o.Needed {
			lib, err := c.load(o, name)
			if err != nil {
				return err
			}
			if lib != nil {
				queue = append(queue, lib)
			}
		}
	}
	return nil
}

// load finds one library, and returns nil if it has been loaded already.
func (c *closer) load(by *loaded, name string) (*loaded, error) {
	if c.names[name] != nil || isMusl(c.interp) && muslOwn(name) {
		return nil, nil
	}
	if len(c.order) == maxObjects {
		return nil, fmt.Errorf("%s leads to more than %d libraries", by.host(), maxObjects)
	}
	dirs, base := c.searchPath(by), name
	if strings.Contains(name, "/") {
		dirs, base = by.expand([]string{path.Dir(name)}), path.Base(name)
	}
	for _, d := range dirs {
		lib, err := c.try(by, d, base)
		if err != nil {
			return nil, err
		}
		if lib == nil {
			continue
		}
		c.names[name] = lib
		c.order = append(c.order, lib)
		if d.system {
			c.cached[name] = lib.guest
		}
		if lib.Soname != "" && c.names[lib.Soname] == nil {
			c.names[lib.Soname] = lib
		}
		return lib, nil
	}
	missing := &MissingError{Library: name, NeededBy: by.host()}
	if base == name {
		for _, d := range dirs {
			missing.Searched = append(missing.Searched, d.root.host(d.path))
		}
	}
	return nil, missing
}

// try looks for a library in one directory. What is not there, or is for
// another machine, is passed over, as the loader does.
func (c *closer) try(by *loaded, d dir, name string) (*loaded, error) {
	full := path.Join(d.path, name)
	at, links, err := d.root.resolve(full)
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for %s, needed by %s: %w", name, by.host(), err)
	}
	o, err := d.root.object(at)
	if err != nil {
		if otherMachine(d.root.host(at)) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading %s, needed by %s: %w", d.root.host(at), by.host(), cause(err))
	}
	if o.Arch != by.Arch {
		return nil, nil
	}
	lib := &loaded{Object: o, root: d.root, system: c.system, path: full, guest: path.Join(d.guest, name), parent: by}
	if d.path != d.guest {
		return lib, c.add(lib, lib.guest, at, nil)
	}
	return lib, c.add(lib, at, at, links)
}

// searchPath returns where the loader looks for what an object needs, in
// order (ld.so(8); for musl, its __dl_load_library).
func (c *closer) searchPath(o *loaded) []dir {
	var dirs []dir
	if isMusl(c.interp) {
		for p := o; p != nil; p = p.parent {
			paths := p.RunPath
			if paths == nil {
				paths = p.RPath
			}
			dirs = append(dirs, p.expand(paths)...)
		}
		return append(dirs, c.dirs...)
	}
	if o.RunPath == nil {
		for p := o; p != nil; p = p.parent {
			if p.RunPath == nil {
				dirs = append(dirs, p.expand(p.RPath)...)
			}
		}
	}
	dirs = append(dirs, o.expand(o.RunPath)...)
	if o.noDefaultLib {
		return dirs
	}
	return append(dirs, c.dirs...)
}

// add puts a file at a guest path, and the links that lead there.
func (c *closer) add(o *loaded, guest, at string, links []link) error {
	if err := c.put(Entry{Guest: guest, Host: o.root.host(at)}); err != nil {
		return err
	}
	for _, l := range links {
		if err := c.put(Entry{Guest: l.path, Target: l.target}); err != nil {
			return err
		}
	}
	return nil
}

func (c *closer) put(e Entry) error {
	old, ok := c.entries[e.Guest]
	if ok && (old.Host != e.Host || old.Target != e.Target) {
		return fmt.Errorf("two files would be %s: %s and %s", e.Guest, old.source(), e.source())
	}
	c.entries[e.Guest] = e
	return nil
}

func (e Entry) source() string {
	if e.Target != "" {
		return "a link to " + e.Target
	}
	return e.Host
}

// cause returns what is below an error of the os package, whose own text
// would repeat the path.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
