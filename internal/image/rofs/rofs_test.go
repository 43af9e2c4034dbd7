package rofs

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// archive is a source of tar entries that a text describes, one a line:
// "d NAME", "f NAME CONTENT", "s NAME TARGET", "h NAME TARGET".
func archive(t testing.TB, name, text string) Source {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "" {
			continue
		}
		path, arg, _ := strings.Cut(rest, " ")
		h := &tar.Header{Name: path, Linkname: arg, Typeflag: map[string]byte{
			"d": tar.TypeDir, "f": tar.TypeReg, "s": tar.TypeSymlink, "h": tar.TypeLink, "p": tar.TypeFifo,
		}[word]}
		if word == "f" {
			h.Linkname, h.Size = "", int64(len(arg))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if word == "f" {
			if _, err := io.WriteString(w, arg); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return Tar(name, func(_ context.Context, w io.Writer) error {
		_, err := w.Write(b.Bytes())
		return err
	})
}

func write(t testing.TB, sources ...Source) []byte {
	t.Helper()
	tree, err := Plan(t.Context(), sources...)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tree.Write(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != tree.Size() {
		t.Errorf("%d bytes were written, and %d announced", b.Len(), tree.Size())
	}
	return b.Bytes()
}

// list describes what a file system holds, in the words of archive.
func list(t testing.TB, image []byte) string {
	t.Helper()
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for e := range f.Entries() {
		switch e.Type {
		case fs.ModeDir:
			fmt.Fprintf(&b, "d %s\n", e.Path)
		case fs.ModeSymlink:
			fmt.Fprintf(&b, "s %s %s\n", e.Path, e.Target)
		default:
			content, err := io.ReadAll(f.Content(e))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "f %s %s\n", e.Path, content)
		}
		if found, ok := f.Lookup("/" + e.Path); !ok || found != e {
			t.Errorf("Lookup(%q) = %+v, %v", e.Path, found, ok)
		}
	}
	return b.String()
}

// TestBytes compares a small file system with what the structures of OSv's
// fs/rofs/rofs.hh are in bytes, worked out by hand.
func TestBytes(t *testing.T) {
	image := write(t, archive(t, "a", "f b hi\nd a\nf a/c 123\ns l b\n"))
	want := make([]byte, 4*Block)
	put := func(at int, s string) int {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return at + copy(want[at:], b)
	}
	u64 := func(values ...int) (s string) {
		for _, v := range values {
			s += fmt.Sprintf("%02x%02x000000000000", v&0xff, v>>8)
		}
		return s
	}
	at := put(0, "adbeadde00000000"+u64(1, 512, 3, 1, 4, 1, 5))
	put(at, u64())
	copy(want[1*Block:], "hi")  // b, which the archive has first
	copy(want[2*Block:], "123") // a/c
	at = 3 * Block
	at = put(at, u64(3)+"0100"+"63")   // a's: c
	at = put(at, u64(2)+"0100"+"61")   // the root's: a
	at = put(at, u64(4)+"0100"+"62")   // b
	at = put(at, u64(5)+"0100"+"6c")   // l
	at = put(at, "0100"+"62")          // l's target
	at = put(at, u64(0x4000, 1, 1, 3)) // the root
	at = put(at, u64(0x4000, 2, 0, 1)) // a
	at = put(at, u64(0x8000, 3, 2, 3)) // a/c
	at = put(at, u64(0x8000, 4, 1, 2)) // b
	put(at, u64(0xa000, 5, 0, 1))      // l
	if !bytes.Equal(image, want) {
		t.Errorf("\ngot  %x\nwant %x", image, want)
	}
}

func TestRoundTrip(t *testing.T) {
	large := strings.Repeat("0123456789abcde.", 100_000)
	for name, tt := range map[string]struct {
		sources []string
		want    string
	}{
		"nothing":           {nil, ""},
		"an empty archive":  {[]string{""}, ""},
		"a root":            {[]string{"d ./\nd /\n"}, ""},
		"an empty file":     {[]string{"f e \n"}, "f e \n"},
		"exactly a block":   {[]string{"f b " + strings.Repeat("x", 512)}, "f b " + strings.Repeat("x", 512) + "\n"},
		"large":             {[]string{"f l " + large}, "f l " + large + "\n"},
		"made directories":  {[]string{"f a/b/c 1\n"}, "d a\nd a/b\nf a/b/c 1\n"},
		"old names":         {[]string{"d /a/\nf /a/b 1\nf ./c 2\n"}, "d a\nf a/b 1\nf c 2\n"},
		"sorted":            {[]string{"f b 1\nf a/z 2\nf a-b 3\n"}, "d a\nf a/z 2\nf a-b 3\nf b 1\n"},
		"a later file wins": {[]string{"f a old\nf b 1", "f a new\n"}, "f a new\nf b 1\n"},
		"directories join":  {[]string{"f d/a 1\n", "d d\nf d/b 2\n"}, "d d\nf d/a 1\nf d/b 2\n"},
		"a link replaced":   {[]string{"s a x\n", "f a 1\n"}, "f a 1\n"},
		"a file replaced":   {[]string{"f a 1\n", "s a /x\n"}, "s a /x\n"},
		"hard links":        {[]string{"f a 1\nh d/b a\nh c /d/b\n"}, "f a 1\nf c 1\nd d\nf d/b 1\n"},
		"a replaced link":   {[]string{"f a 1\nh b a\n", "f a 2\n"}, "f a 2\nf b 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var sources []Source
			for n, text := range tt.sources {
				sources = append(sources, archive(t, fmt.Sprint("source ", n), text))
			}
			image := write(t, sources...)
			if got := list(t, image); got != sortLines(tt.want) && got != tt.want {
				t.Errorf("got\n%.300s\nwant\n%.300s", got, tt.want)
			}
			if !bytes.Equal(image, write(t, sources...)) {
				t.Error("it is not the same when it is made again")
			}
			// What was read is a source of the same.
			f, err := Open(bytes.NewReader(image), int64(len(image)))
			if err != nil {
				t.Fatal(err)
			}
			if again := list(t, write(t, f.Source("itself"))); again != list(t, image) {
				t.Errorf("copied, it is\n%.300s", again)
			}
		})
	}
}

// sortLines sorts by path alone, which is how entries of flat trees come.
func sortLines(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.SortStableFunc(lines[:len(lines)-1], func(a, b string) int {
		return strings.Compare(strings.ReplaceAll(strings.Fields(a)[1], "/", "\x00"), strings.ReplaceAll(strings.Fields(b)[1], "/", "\x00"))
	})
	return strings.Join(lines, "")
}

// TestReplaced: what a later source has replaced takes no room.
func TestReplaced(t *testing.T) {
	big := archive(t, "big", "f a "+strings.Repeat("x", 100_000))
	if image := write(t, big, archive(t, "small", "f a y\n")); len(image) != 3*Block {
		t.Errorf("it has %d bytes", len(image))
	}
}

func TestRefused(t *testing.T) {
	for name, sources := range map[string][]string{
		"upwards":                {"f ../a 1\n"},
		"upwards within":         {"f a/../../b 1\n"},
		"upwards as a directory": {"d a/..\n"},
		"a hard link upwards":    {"h a ../../etc/passwd\n"},
		"a dangling hard link":   {"h a b\n"},
		"a link to a directory":  {"d b\nh a b\n"},
		"a link through a file":  {"f b 1\nh a b/c\n"},
		"through a link":         {"s a /etc\nf a/passwd 1\n"},
		"through a file":         {"f a 1\n", "f a/b 2\n"},
		"a file over a folder":   {"d a\n", "f a 1\n"},
		"a link over a folder":   {"f a/b 1\n", "s a /x\n"},
		"a folder over a link":   {"s a x\n", "d a\n"},
		"a link as the root":     {"s ./ x\n"},
		"a FIFO":                 {"p a\n"},
		"a long name":            {"f " + strings.Repeat("x", 256) + " 1\n"},
		"a long path":            {"f " + strings.Repeat("x/", 2500) + "a 1\n"},
		"no target":              {"s a\n"},
		"a long target":          {"s a " + strings.Repeat("x", 5000)},
	} {
		t.Run(name, func(t *testing.T) {
			var all []Source
			for n, text := range sources {
				all = append(all, archive(t, fmt.Sprint("source ", n), text))
			}
			_, err := Plan(t.Context(), all...)
			var refused *Error
			if !errors.As(err, &refused) || refused.Hint() == "" || len(err.Error()) > 300 {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	many := Source{Name: "many", Each: func(_ context.Context, each func(*tar.Header, io.Reader) error) error {
		for n := range maxEntries + 1 {
			if err := each(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(n % 10)}, nil); err != nil {
				return err
			}
		}
		return nil
	}}
	huge := Source{Name: "huge", Each: func(_ context.Context, each func(*tar.Header, io.Reader) error) error {
		for range 2 {
			if err := each(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1 << 62}, nil); err != nil {
				return err
			}
		}
		return nil
	}}
	// Few entries, but many directories that have none.
	deep := Source{Name: "deep", Each: func(_ context.Context, each func(*tar.Header, io.Reader) error) error {
		kinds := []byte{tar.TypeReg, tar.TypeDir}
		for n := range maxEntries/2000 + 1 {
			if err := each(&tar.Header{Typeflag: kinds[n%2], Name: fmt.Sprint(n, "/", strings.Repeat("d/", 2000), "e")}, nil); err != nil {
				return err
			}
		}
		return nil
	}}
	for _, s := range []Source{many, huge, deep} {
		if _, err := Plan(t.Context(), s); err == nil || !strings.Contains(err.Error(), "bound") {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// TestChanges: a source that is another one when it is read again is found out.
func TestChanges(t *testing.T) {
	for name, then := range map[string]string{
		"renamed": "f b 1\n", "longer": "f a 12\n", "shorter": "f a \n", "gone": "", "a directory": "d a\n",
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			s := Source{Name: "s", Each: func(ctx context.Context, each func(*tar.Header, io.Reader) error) error {
				if reads++; reads == 1 {
					return archive(t, "", "f a 1\n").Each(ctx, each)
				}
				return archive(t, "", then).Each(ctx, each)
			}}
			tree, err := Plan(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if err := tree.Write(t.Context(), io.Discard); !errors.Is(err, errChanged) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestErrors: what a source or a writer fails of is what is said.
func TestErrors(t *testing.T) {
	failed := errors.New("the disk is gone")
	s := Tar("s", func(_ context.Context, w io.Writer) error {
		if _, err := w.Write(make([]byte, 100)); err != nil {
			return err
		}
		return failed
	})
	if _, err := Plan(t.Context(), s); !errors.Is(err, failed) {
		t.Errorf("planning: %v", err)
	}
	tree, err := Plan(t.Context(), archive(t, "s", "f a "+strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	r.CloseWithError(failed)
	if err := tree.Write(t.Context(), w); !errors.Is(err, failed) {
		t.Errorf("writing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tree.Write(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestExtract: a tree becomes the same one on the host, and leads nowhere out.
func TestExtract(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "out")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tree, err := Plan(t.Context(), archive(t, "one", "f a old\nh b a\nf e \nf e2 \nd d/deep\ns l ../outside\nf n 1\nh d/n n\n"), archive(t, "two", "f a new\n"))
	if err != nil {
		t.Fatal(err)
	}
	extract := func() error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		return tree.Extract(t.Context(), root)
	}
	if err := extract(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "new", "b": "old", "e": "", "e2": "", "n": "1", "d/n": "1"} {
		if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(dir, "l")); err != nil || filepath.ToSlash(target) != "../outside" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "d", "deep")); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
	if err := extract(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over what is there: %v", err)
	}
	// What somebody put there meanwhile is not followed.
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755), os.Symlink("../outside", filepath.Join(dir, "a"))); err != nil {
		t.Fatal(err)
	}
	if err := extract(); err == nil {
		t.Error("it wrote through a link")
	}
	if left, err := os.ReadDir(base); err != nil || len(left) != 1 {
		t.Errorf("outside: %v, %v", left, err)
	}
}

// TestExtractLinks: many names of one file take the room of one, and where
// they cannot, are copies up to the bound.
func TestExtractLinks(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree, err := Plan(t.Context(), archive(t, "s", "f a 123\nh d/b a\nh d/c a\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Extract(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	first, err := root.Stat("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d/b", "d/c"} {
		if other, err := root.Stat(name); err != nil || !os.SameFile(first, other) {
			t.Errorf("%s: another file, %v", name, err)
		}
	}
	left := copies(7)
	for _, name := range []string{"e", "f"} {
		if err := left.copy(root, "a", name, 3); err != nil {
			t.Fatal(err)
		}
		if got, err := root.ReadFile(name); err != nil || string(got) != "123" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	var refused *Error
	if err := left.copy(root, "a", "g", 3); !errors.As(err, &refused) || refused.Hint() == "" {
		t.Errorf("beyond the bound: %v", err)
	}
}

// TestDamaged changes each byte of the superblock and the tables: what opens
// nevertheless can be walked and read.
func TestDamaged(t *testing.T) {
	image := write(t, archive(t, "a", "f b hi\nd a\nf a/c 123\nd a/d/e\ns l b\nh a/d/h b\n"))
	refused := 0
	for at := range image {
		if at >= superSize && at < 3*Block {
			continue
		}
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			damaged := bytes.Clone(image)
			damaged[at] ^= flip
			if exercise(damaged) != nil {
				refused++
			}
		}
	}
	if refused < 500 {
		t.Errorf("only %d of the damages were found", refused)
	}
}

// exercise opens a file system and reads all of it.
func exercise(image []byte) error {
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return err
	}
	for e := range f.Entries() {
		if e.Type == 0 {
			if _, err := io.Copy(io.Discard, f.Content(e)); err != nil {
				return err
			}
		}
		f.Lookup(e.Path)
	}
	return nil
}

func FuzzOpen(f *testing.F) {
	f.Add(write(f, archive(f, "a", "f b hi\nd a\nf a/c 123\ns l b\n")))
	f.Add(write(f))
	f.Add([]byte("\xad\xbe\xad\xde"))
	f.Fuzz(func(t *testing.T, image []byte) {
		if exercise(image) != nil {
			return
		}
		fsys, err := Open(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			t.Fatal(err)
		}
		tree, err := Plan(t.Context(), fsys.Source("fuzz"))
		if err != nil {
			return // two entries of one name, say
		}
		var b bytes.Buffer
		if err := tree.Write(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		if err := exercise(b.Bytes()); err != nil {
			t.Errorf("what was written cannot be read: %v", err)
		}
	})
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte("not a tar"))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "/meta/", Typeflag: tar.TypeDir})
	w.WriteHeader(&tar.Header{Name: "/a", Typeflag: tar.TypeReg, Size: 3})
	w.Write([]byte("abc"))
	w.WriteHeader(&tar.Header{Name: "../l", Linkname: "a", Typeflag: tar.TypeLink})
	w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		s := Tar("fuzz", func(_ context.Context, w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
		tree, err := Plan(t.Context(), s)
		if err != nil || tree.Size() > 1<<20 {
			return
		}
		var b bytes.Buffer
		if err := tree.Write(t.Context(), &b); err != nil {
			return // the tar is short
		}
		if err := exercise(b.Bytes()); err != nil {
			t.Errorf("what was written cannot be read: %v", err)
		}
	})
}
