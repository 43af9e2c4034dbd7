package erofs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"capstan/internal/image/erofs"
)

// step does one thing to a Writer.
type step func(*erofs.Writer) error

func dir(name string) step {
	return func(w *erofs.Writer) error {
		return w.Add(&erofs.Entry{Name: name, Mode: fs.ModeDir | 0o755}, nil)
	}
}

func file(name, content string) step {
	return func(w *erofs.Writer) error {
		e := erofs.Entry{Name: name, Mode: 0o644, Size: int64(len(content))}
		return w.Add(&e, strings.NewReader(content))
	}
}

func symlink(name, target string) step {
	return func(w *erofs.Writer) error {
		return w.Add(&erofs.Entry{Name: name, Mode: fs.ModeSymlink | 0o777, Target: target}, nil)
	}
}

func link(name, target string) step {
	return func(w *erofs.Writer) error { return w.Link(name, target) }
}

func whiteout(name string) step { return func(w *erofs.Writer) error { return w.Whiteout(name) } }
func opaque(name string) step   { return func(w *erofs.Writer) error { return w.Opaque(name) } }
func remove(name string) step   { return func(w *erofs.Writer) error { return w.Remove(name) } }
func layer(w *erofs.Writer) error {
	w.BeginLayer()
	return nil
}

// show lists a tree: directories with a slash, files with their content and
// link count, symbolic links with their target.
func show(t *testing.T, fsys *erofs.FS) []string {
	t.Helper()
	list := []string{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		links := ""
		if n := info.Sys().(*erofs.Stat).Nlink; n > 1 {
			links = fmt.Sprintf(" x%d", n)
		}
		switch d.Type() {
		case fs.ModeDir:
			list = append(list, name+"/")
		case fs.ModeSymlink:
			target, err := fsys.ReadLink(name)
			list = append(list, name+" -> "+target+links)
			return err
		default:
			b, err := fs.ReadFile(fsys, name)
			list = append(list, name+"="+string(b)+links)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTreeAndLayers(t *testing.T) {
	for name, c := range map[string]struct {
		steps []step
		want  string // what show gives, separated by "; "
	}{
		"nothing":         {nil, ""},
		"root by names":   {[]step{dir(""), dir("."), dir("/"), dir("./")}, ""},
		"missing parents": {[]step{file("/a//./b/c", "1")}, "a/; a/b/; a/b/c=1"},
		"later file":      {[]step{file("a", "1"), file("a", "2")}, "a=2"},
		"file by dir":     {[]step{file("a", "1"), dir("a"), file("a/b", "2")}, "a/; a/b=2"},
		"dir by file":     {[]step{file("a/b/c", "1"), file("a", "2")}, "a=2"},
		"dir by symlink":  {[]step{file("a/b", "1"), symlink("a", "x")}, "a -> x"},
		"dir by dir":      {[]step{file("a/b", "1"), dir("a")}, "a/; a/b=1"},
		"file as parent":  {[]step{file("a", "1"), file("a/b", "2")}, "a/; a/b=2"},
		"removed":         {[]step{file("a/b", "1"), file("c", "2"), remove("a"), remove("x/y")}, "c=2"},

		"hard links": {
			[]step{file("a", "1"), link("b", "a"), link("c/d", "./b")},
			"a=1 x3; b=1 x3; c/; c/d=1 x3",
		},
		"link to itself":     {[]step{file("a", "1"), link("a", "/a"), link("./a", "a")}, "a=1"},
		"link to its link":   {[]step{file("a", "1"), link("b", "a"), link("a", "b")}, "a=1 x2; b=1 x2"},
		"link below itself":  {[]step{file("a", "1"), link("a/b", "a")}, "a/; a/b=1"},
		"link by file":       {[]step{file("a", "1"), link("b", "a"), file("b", "2")}, "a=1; b=2"},
		"link removed":       {[]step{file("a", "1"), link("b", "a"), remove("a")}, "b=1"},
		"link over dir":      {[]step{file("a", "1"), file("d/e", "2"), link("d", "a")}, "a=1 x2; d=1 x2"},
		"link over its dir":  {[]step{file("d/e", "2"), link("d", "d/e")}, "d=2"},
		"link to symlink":    {[]step{symlink("s", "x"), link("b", "s")}, "b -> x x2; s -> x x2"},
		"link across layers": {[]step{file("a", "1"), layer, link("b", "a"), layer, whiteout("a")}, "b=1"},

		"symlinked parent": {
			[]step{dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/x", "1")},
			"lib -> usr/lib; usr/; usr/lib/; usr/lib/x=1",
		},
		"symlink out of the root": {
			[]step{symlink("s", "../../../etc"), file("s/passwd", "1"), symlink("t", "/../s/d"), file("t/f", "2")},
			"etc/; etc/d/; etc/d/f=2; etc/passwd=1; s -> ../../../etc; t -> /../s/d",
		},
		"symlink through a symlink": {
			[]step{dir("a/b"), symlink("s", "a/b"), symlink("t", "s/../c"), file("t/f", "1")},
			"a/; a/b/; a/c/; a/c/f=1; s -> a/b; t -> s/../c",
		},
		"linked through symlinks": {
			[]step{file("a/f", "1"), symlink("s", "a"), link("s/g", "s/f")},
			"a/; a/f=1 x2; a/g=1 x2; s -> a",
		},
		"symlink replaced": {[]step{symlink("s", "a"), file("s", "1")}, "s=1"},

		"whiteout": {
			[]step{file("a", "1"), file("d/e/f", "2"), file("k", "3"), layer, whiteout("a"), whiteout("d"), whiteout("x")},
			"k=3",
		},
		"whiteout before the entry": {[]step{file("a", "1"), layer, whiteout("a"), file("a", "2")}, "a=2"},
		"whiteout after the entry":  {[]step{file("a", "1"), layer, file("a", "2"), whiteout("a")}, "a=2"},
		"whiteout of a refilled directory": {
			[]step{file("d/old", "1"), file("d/e/old", "1"), layer, file("d/new", "2"), whiteout("d")},
			"d/; d/new=2",
		},
		"whiteout through a symlink": {
			[]step{file("usr/lib/x", "1"), symlink("lib", "usr/lib"), layer, whiteout("lib/x")},
			"lib -> usr/lib; usr/; usr/lib/",
		},
		"whiteout keeps what it hides in no layer": {[]step{layer, file("a", "1"), whiteout("a")}, "a=1"},
		"opaque": {
			[]step{file("d/a", "1"), file("d/e/b", "1"), file("k", "3"), layer, dir("d"), opaque("d")},
			"d/; k=3",
		},
		"opaque after new entries": {
			[]step{file("d/a", "1"), file("d/e/b", "1"), layer, file("d/e/c", "2"), opaque("d"), opaque("d")},
			"d/; d/e/; d/e/c=2",
		},
		"opaque in each layer": {
			[]step{file("d/a", "1"), layer, file("d/b", "2"), opaque("d"), layer, opaque("d"), file("d/c", "3")},
			"d/; d/c=3",
		},
		"opaque of what is no directory": {[]step{file("a", "1"), layer, opaque("a"), opaque("x/y")}, "a=1"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys, _ := image(t, erofs.Options{}, func(w *erofs.Writer) error {
				for i, s := range c.steps {
					if err := s(w); err != nil {
						return fmt.Errorf("step %d: %w", i, err)
					}
				}
				return nil
			})
			var want []string
			if c.want != "" {
				want = strings.Split(c.want, "; ")
			}
			if got := show(t, fsys); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	loop := func(w *erofs.Writer) error {
		return errors.Join(symlink("l", "l")(w), symlink("m", "n/x")(w), symlink("n", "m")(w))
	}
	bad := func(e erofs.Entry) step {
		return func(w *erofs.Writer) error { return w.Add(&e, strings.NewReader("")) }
	}
	long := strings.Repeat("x", 256)
	for name, c := range map[string]struct {
		step step
		want error // a LimitError if nil
	}{
		"dot dot":             {file("a/../b", ""), erofs.ErrName},
		"dot dot first":       {file("../b", ""), erofs.ErrName},
		"NUL":                 {file("a\x00", ""), erofs.ErrName},
		"root as file":        {file("/", ""), erofs.ErrName},
		"root whited out":     {whiteout("/"), erofs.ErrName},
		"root removed":        {remove("."), erofs.ErrName},
		"root linked":         {link("a", "/"), erofs.ErrName},
		"name of 256 bytes":   {file(long, ""), nil},
		"opaque dot dot":      {opaque("a/.."), erofs.ErrName},
		"link to nothing":     {link("a", "b"), fs.ErrNotExist},
		"link to a directory": {func(w *erofs.Writer) error { return errors.Join(dir("d")(w), link("a", "d")(w)) }, erofs.ErrEntry},
		"link dot dot":        {link("a", "../b"), erofs.ErrName},
		"through a loop":      {file("l/a", ""), erofs.ErrLoop},
		"through two":         {file("m/a", ""), erofs.ErrLoop},
		"link through a loop": {link("a", "l/a"), erofs.ErrLoop},
		"whiteout in a loop":  {whiteout("l/a"), erofs.ErrLoop},
		"symlink to nothing":  {symlink("s", ""), erofs.ErrEntry},
		"symlink with NUL":    {symlink("s", "a\x00b"), erofs.ErrEntry},
		"long symlink":        {symlink("s", strings.Repeat("x", 4096)), nil},
		"negative size":       {bad(erofs.Entry{Name: "a", Size: -1}), erofs.ErrEntry},
		"short content":       {bad(erofs.Entry{Name: "a", Size: 1}), nil},
		"large major":         {bad(erofs.Entry{Name: "a", Mode: fs.ModeDevice, Major: 1 << 12}), erofs.ErrEntry},
		"large minor":         {bad(erofs.Entry{Name: "a", Mode: fs.ModeDevice, Minor: 1 << 20}), erofs.ErrEntry},
		"irregular":           {bad(erofs.Entry{Name: "a", Mode: fs.ModeIrregular}), erofs.ErrEntry},
		"strange attribute":   {bad(erofs.Entry{Name: "a", Xattrs: map[string][]byte{"com.x": nil}}), erofs.ErrEntry},
		"empty attribute":     {bad(erofs.Entry{Name: "a", Xattrs: map[string][]byte{"user.": nil}}), erofs.ErrEntry},
		"long attribute":      {bad(erofs.Entry{Name: "a", Xattrs: map[string][]byte{"user." + long: nil}}), nil},
		"large attribute":     {bad(erofs.Entry{Name: "a", Xattrs: map[string][]byte{"user.a": make([]byte, 1<<16)}}), nil},
		"too deep":            {file(strings.Repeat("d/", 512)+"f", ""), nil},
		"too large":           {bad(erofs.Entry{Name: "a", Size: 1 << 40}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			// What was refused must not show.
			fsys, _ := image(t, erofs.Options{}, func(w *erofs.Writer) error {
				if err := loop(w); err != nil {
					return err
				}
				err := c.step(w)
				var limit *erofs.LimitError
				switch {
				case name == "short content":
					if err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
						t.Errorf("error is %v", err)
					}
				case c.want != nil && !errors.Is(err, c.want), c.want == nil && !errors.As(err, &limit):
					t.Errorf("error is %v, want %v", err, c.want)
				}
				return errors.Join(w.Remove("d"), w.Remove("l"), w.Remove("m"), w.Remove("n"))
			})
			if got := show(t, fsys); len(got) > 0 {
				t.Errorf("left in the tree: %q", got)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	long := strings.Repeat("t", 4000)
	for name, c := range map[string]struct {
		opts erofs.Options
		step func(i int) step // of which 400 must be too many, 10 not
	}{
		"entries":           {erofs.Options{MaxEntries: 100}, func(i int) step { return file(fmt.Sprint(i), "") }},
		"the same entry":    {erofs.Options{MaxEntries: 100}, func(int) step { return file("a", "") }},
		"links":             {erofs.Options{MaxEntries: 100}, func(i int) step { return link(fmt.Sprint(i), "first") }},
		"directories":       {erofs.Options{MaxEntries: 100}, func(i int) step { return dir(fmt.Sprint(i)) }},
		"the same one":      {erofs.Options{MaxEntries: 100}, func(int) step { return dir("d") }},
		"missing parents":   {erofs.Options{MaxEntries: 100}, func(i int) step { return file(fmt.Sprint(i, "/b"), "") }},
		"memory of names":   {erofs.Options{MaxMetadata: 50000}, func(i int) step { return file(fmt.Sprint(i), "") }},
		"memory of targets": {erofs.Options{MaxMetadata: 500000}, func(i int) step { return symlink(fmt.Sprint(i), long) }},
		"content":           {erofs.Options{MaxContent: 500000}, func(int) step { return file("a", long) }},
		"depth":             {erofs.Options{MaxDepth: 100}, func(i int) step { return file(strings.Repeat("d/", i)+"f", "") }},
	} {
		t.Run(name, func(t *testing.T) {
			w := erofs.Create(&memory{}, c.opts)
			if err := file("first", "")(w); err != nil {
				t.Fatal(err)
			}
			var err error
			i := 0
			for ; err == nil && i < 400; i++ {
				err = c.step(i)(w)
			}
			var limit *erofs.LimitError
			if !errors.As(err, &limit) || i <= 10 {
				t.Fatalf("error after %d is %v, want a LimitError", i, err)
			}
			if _, err := w.Close(); err != nil {
				t.Errorf("closing at the limit: %v", err)
			}
		})
	}
}

// Memory is given back when entries go.
func TestReplacingCostsNoMemory(t *testing.T) {
	w := erofs.Create(&memory{}, erofs.Options{MaxMetadata: 20000})
	attrs := map[string][]byte{"user.a": make([]byte, 2000)}
	for i := range 100 {
		for _, s := range []step{
			file("d/e/f", "x"), link("d/g", "d/e/f"), symlink("d/s", strings.Repeat("t", 2000)),
			func(w *erofs.Writer) error {
				return w.Add(&erofs.Entry{Name: "d/x", Mode: fs.ModeDir, Xattrs: attrs}, nil)
			},
			layer, whiteout("d"),
		} {
			if err := s(w); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
	}
}

func TestErrorOfTheDestination(t *testing.T) {
	full := errors.New("disk full")
	w := erofs.Create(failing{full}, erofs.Options{})
	var err error
	for i := 0; err == nil && i < 100; i++ {
		err = file("a", strings.Repeat("x", 100000))(w)
	}
	if !errors.Is(err, full) {
		t.Fatalf("error is %v, want %v", err, full)
	}
	if err := dir("d")(w); !errors.Is(err, full) {
		t.Errorf("the next call gave %v, want %v", err, full)
	}
	if _, err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close gave %v, want %v", err, full)
	}
}

func TestClosed(t *testing.T) {
	w := erofs.Create(&memory{}, erofs.Options{})
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []step{dir("a"), link("a", "b"), whiteout("a"), opaque("a"), remove("a")} {
		if err := s(w); !errors.Is(err, erofs.ErrClosed) {
			t.Errorf("error is %v, want %v", err, erofs.ErrClosed)
		}
	}
	if _, err := w.Close(); !errors.Is(err, erofs.ErrClosed) {
		t.Errorf("error is %v, want %v", err, erofs.ErrClosed)
	}
}

type failing struct{ err error }

func (f failing) WriteAt([]byte, int64) (int, error) { return 0, f.err }
