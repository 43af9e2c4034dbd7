package imagetest

import (
	"archive/tar"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"capstan/internal/image/erofs/erofstest"
)

// names are few, so that entries often meet.
var names = []string{
	"a", "b", "c", "d", "e", "..x", "...", "a\nb", "caf\xe9", " ", "日本", "wh.",
	strings.Repeat("n", 120), strings.Repeat("m", 255),
}

// Stack makes the layers of a random image, the same for the same seed: what
// engines and builders write, in every order that has a meaning. What has none
// is left out: parents that are no directories, hard links to nothing.
func Stack(seed uint64) [][]Entry {
	s := stack{rng: rand.New(rand.NewPCG(seed, 0)), kinds: map[string]byte{".": tar.TypeDir}, targets: map[string]string{}}
	layers := make([][]Entry, 1+s.rng.IntN(5))
	for i := range layers {
		s.entries, s.touched = nil, map[string]bool{}
		for range 3 + s.rng.IntN(30) {
			s.step()
		}
		layers[i] = s.entries
	}
	return layers
}

// stack knows what is at each path, symbolic links resolved.
type stack struct {
	rng     *rand.Rand
	kinds   map[string]byte
	targets map[string]string // of symbolic links to directories
	touched map[string]bool   // by this layer, with what is above
	entries []Entry
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// paths lists what satisfies f, sorted.
func (s *stack) paths(f func(name string, kind byte) bool) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(s.kinds)) {
		if f(name, s.kinds[name]) {
			list = append(list, name)
		}
	}
	return list
}

func isDir(_ string, kind byte) bool { return kind == tar.TypeDir }

// parent picks a directory: the path by which it is written, and where it is.
func (s *stack) parent() (written, real string) {
	if s.rng.IntN(4) == 0 {
		links := s.paths(func(name string, _ byte) bool {
			target, ok := s.targets[name]
			return ok && s.kinds[target] == tar.TypeDir
		})
		if len(links) > 0 {
			link := pick(s.rng, links)
			return link, s.targets[link]
		}
	}
	dir := pick(s.rng, s.paths(isDir))
	return dir, dir
}

func (s *stack) step() {
	written, real := s.parent()
	if len(real) > 1500 {
		return
	}
	base := pick(s.rng, names)
	name, at := path.Join(written, base), path.Join(real, base)
	switch k := s.rng.IntN(20); {
	case k < 2:
		s.marker(path.Join(written, ".wh..wh..opq"))
		s.hide(real, false)
	case k < 5 && len(base) < 250:
		s.marker(path.Join(written, ".wh."+base))
		s.hide(at, true)
	case k == 5:
		s.root()
	case k < 10:
		s.add(at, Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/"}})
	case k < 12:
		s.symlink(name, at)
	case k < 14:
		s.hardLink(name, at)
	case k < 16:
		kind := pick(s.rng, []byte{tar.TypeFifo, tar.TypeChar, tar.TypeBlock})
		e := Entry{Header: tar.Header{Typeflag: kind, Name: name}}
		if kind != tar.TypeFifo {
			e.Devmajor, e.Devminor = s.rng.Int64N(3), s.rng.Int64N(300) // 0:0 is overlayfs's whiteout
		}
		s.add(at, e)
	default:
		if s.rng.IntN(5) == 0 && s.kinds[at] == 0 { // below directories that no entry describes
			name, at = path.Join(name, "made", "x"), path.Join(at, "made", "x")
		}
		s.add(at, Entry{
			Header:  tar.Header{Typeflag: tar.TypeReg, Name: name},
			Content: strings.Repeat(fmt.Sprint(s.rng.Uint32()), s.rng.IntN(2000)),
		})
	}
}

// root writes an entry for the root itself.
func (s *stack) root() {
	s.add(".", Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: pick(s.rng, []string{"./", "/", "."})}})
}

func (s *stack) marker(name string) {
	s.write(Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name}})
}

// hide removes what lower layers have at and below a path.
func (s *stack) hide(at string, itself bool) {
	for name := range s.kinds {
		below := strings.HasPrefix(name, at+"/") || at == "." && name != "."
		if (below || itself && name == at) && !s.touched[name] {
			s.drop(name)
		}
	}
}

func (s *stack) drop(name string) {
	delete(s.kinds, name)
	delete(s.targets, name)
}

// set makes a path stand for something else, below directories.
func (s *stack) set(at string, kind byte) {
	if kind != tar.TypeDir || s.kinds[at] != tar.TypeDir {
		for name := range s.kinds {
			if name == at || strings.HasPrefix(name, at+"/") {
				s.drop(name)
			}
		}
	}
	s.kinds[at] = kind
	for name := at; ; name = path.Dir(name) {
		if s.kinds[name] == 0 {
			s.kinds[name] = tar.TypeDir
		}
		if s.touched[name] = true; name == "." {
			return
		}
	}
}

func (s *stack) add(at string, e Entry) {
	if s.rng.IntN(3) == 0 {
		s.xattrs(&e)
	}
	s.set(at, e.Typeflag)
	s.write(e)
}

func (s *stack) symlink(name, at string) {
	e := Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name}}
	to := pick(s.rng, s.paths(func(dir string, kind byte) bool {
		return kind == tar.TypeDir && dir != at && !strings.HasPrefix(dir, at+"/")
	}))
	up := strings.Repeat("../", strings.Count(at, "/"))
	switch s.rng.IntN(4) {
	case 0:
		e.Linkname = pick(s.rng, []string{"nowhere", "../../x/../y", strings.Repeat("t/", 1000)})
		s.add(at, e)
		return
	case 1:
		e.Linkname = "/" + to
	case 2:
		e.Linkname = up + "../../" + to // stops at the root
	default:
		e.Linkname = up + to
	}
	s.add(at, e)
	s.targets[at] = to
}

// hardLink links to what is no directory, in this layer or a lower one.
func (s *stack) hardLink(name, at string) {
	olds := s.paths(func(old string, kind byte) bool {
		return kind != tar.TypeDir && old != at && !strings.HasPrefix(old, at+"/")
	})
	if len(olds) == 0 {
		return
	}
	old := pick(s.rng, olds)
	kind := s.kinds[old]
	s.set(at, kind)
	s.write(Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: s.dress(old)}})
}

// dress gives a name one of the forms in which builders write it.
func (s *stack) dress(name string) string {
	return pick(s.rng, []string{"", "./", "/"}) + name
}

// write completes an entry.
func (s *stack) write(e Entry) {
	r := s.rng
	if e.Name != "." && e.Name != "./" && e.Name != "/" {
		e.Name = s.dress(e.Name)
	}
	e.Format = tar.FormatPAX
	e.Mode = r.Int64N(0o10000)
	e.Uid, e.Gid = pick(r, []int{0, 1000, 65536, 1<<32 - 2}), pick(r, []int{0, 1000, 65536})
	e.ModTime = time.Unix(r.Int64N(1.6e9), r.Int64N(2)*r.Int64N(1e9))
	s.entries = append(s.entries, e)
}

// xattrs gives an entry attributes that Linux allows it.
func (s *stack) xattrs(e *Entry) {
	attrs := map[string]string{"trusted.k": fmt.Sprint(s.rng.IntN(3))}
	if e.Typeflag == tar.TypeReg || e.Typeflag == tar.TypeDir {
		attrs["user.bytes"] = "\x00\xff="
	}
	if e.Typeflag == tar.TypeReg {
		attrs["security.capability"] = erofstest.Capability
	}
	e.PAXRecords = map[string]string{}
	for name, value := range attrs {
		e.PAXRecords["SCHILY.xattr."+name] = value
	}
}
