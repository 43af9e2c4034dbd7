package elf

import (
	"os"
	"path"
	"strings"
)

// dir is a directory to look for libraries in: where it is on the host, and
// where it will be in the guest. Both are the same but for $ORIGIN.
type dir struct {
	root   sysroot
	path   string // in root
	guest  string
	system bool // of the loader's configuration, not of an object
}

// machine is what the loader's rules say of an architecture.
type machine struct {
	multiarch string // Debian's name of the library directory
	platform  string // $PLATFORM
	cacheFlag uint32 // in ld.so.cache
}

func machineOf(arch string) machine {
	if arch == "arm64" {
		return machine{"aarch64-linux-gnu", "aarch64", 0x0a03}
	}
	return machine{"x86_64-linux-gnu", "x86_64", 0x0303}
}

// libDirs returns what $LIB may stand for: it is built into the loader, and
// distributions differ.
func (m machine) libDirs() []string {
	return []string{"lib/" + m.multiarch, "lib64", "lib"}
}

// systemDirs returns the directories in which the loader of a sysroot looks
// unasked.
func systemDirs(root sysroot, arch, interp string) []dir {
	m := machineOf(arch)
	var names []string
	if isMusl(interp) {
		names = muslDirs(root, m)
	} else {
		names = (&conf{root: root}).read("/etc/ld.so.conf", 0)
		names = append(names,
			"/lib/"+m.multiarch, "/usr/lib/"+m.multiarch,
			"/lib64", "/usr/lib64", "/lib", "/usr/lib")
	}
	var dirs []dir
	seen := map[string]bool{}
	for _, name := range names {
		if name = path.Clean(name); path.IsAbs(name) && !seen[name] {
			seen[name] = true
			dirs = append(dirs, dir{root, name, name, true})
		}
	}
	return dirs
}

func isMusl(interp string) bool {
	return strings.HasPrefix(path.Base(interp), "ld-musl-")
}

// muslDirs reads musl's list of directories, which replaces the built-in one.
func muslDirs(root sysroot, m machine) []string {
	text := root.text("/etc/ld-musl-" + m.platform + ".path")
	names := strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == '\n' })
	if len(names) == 0 {
		names = []string{"/lib", "/usr/local/lib", "/usr/lib"}
	}
	return names
}

// muslOwn reports whether musl's loader is itself the library of that name.
func muslOwn(name string) bool {
	if strings.HasPrefix(name, "libc.") {
		return true
	}
	for _, part := range []string{"pthread", "rt", "m", "dl", "util", "xnet"} {
		if strings.HasPrefix(name, "lib"+part+".so") {
			return true
		}
	}
	return false
}

// conf reads /etc/ld.so.conf (ldconfig(8)).
type conf struct {
	root  sysroot
	files int
}

const (
	maxConfFiles = 256
	maxConfDepth = 8
)

// read returns the directories that a configuration file and those that it
// includes name, in their order.
func (c *conf) read(name string, depth int) []string {
	if c.files == maxConfFiles || depth == maxConfDepth {
		return nil
	}
	c.files++
	var dirs []string
	for line := range strings.Lines(c.root.text(name)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.FieldsFunc(line, func(r rune) bool {
			return r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == ':' || r == ','
		})
		switch {
		case len(words) == 0 || words[0] == "hwcap":
		case words[0] == "include":
			for _, pattern := range words[1:] {
				for _, file := range c.glob(name, pattern) {
					dirs = append(dirs, c.read(file, depth+1)...)
				}
			}
		default:
			for _, d := range words {
				d, _, _ = strings.Cut(d, "=")
				dirs = append(dirs, d)
			}
		}
	}
	return dirs
}

// glob returns the files that an include names, relative to its own file.
func (c *conf) glob(from, pattern string) []string {
	if !path.IsAbs(pattern) {
		pattern = path.Join(path.Dir(from), pattern)
	}
	parent, _, err := c.root.resolve(path.Dir(pattern))
	if err != nil {
		return nil
	}
	found, err := os.ReadDir(c.root.host(parent))
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range found {
		if ok, err := path.Match(path.Base(pattern), f.Name()); ok && err == nil {
			names = append(names, path.Join(parent, f.Name()))
		}
	}
	return names
}

// expand returns the directories that an entry of DT_RPATH or DT_RUNPATH of an
// object stands for (ld.so(8), "Dynamic string tokens").
func (o *loaded) expand(entries []string) []dir {
	m := machineOf(o.Arch)
	var dirs []dir
	for _, e := range entries {
		e = strings.NewReplacer("${ORIGIN}", "$ORIGIN", "${LIB}", "$LIB", "${PLATFORM}", "$PLATFORM").Replace(e)
		e = strings.ReplaceAll(e, "$PLATFORM", m.platform)
		libs := []string{""}
		if strings.Contains(e, "$LIB") {
			libs = m.libDirs()
		}
		for _, lib := range libs {
			name := strings.ReplaceAll(e, "$LIB", lib)
			if rest, ok := strings.CutPrefix(name, "$ORIGIN"); ok {
				dirs = append(dirs, dir{
					root:  o.root,
					path:  path.Join(path.Dir(o.path), rest),
					guest: path.Join(path.Dir(o.guest), rest),
				})
			} else if path.IsAbs(name) {
				dirs = append(dirs, dir{root: o.system, path: path.Clean(name), guest: path.Clean(name)})
			}
		}
	}
	return dirs
}
