package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"capstan/internal/image/erofs"
)

func TestDirectoryOf100000(t *testing.T) {
	const entries = 100_000
	name := func(i int) string { return fmt.Sprintf("%d-%s", i, strings.Repeat("n", i%240)) }
	fsys, _ := image(t, erofs.Options{}, func(w *erofs.Writer) error {
		for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(entries) {
			if err := file("big/"+name(i), fmt.Sprint(i))(w); err != nil {
				return err
			}
		}
		return nil
	})
	list, err := fsys.ReadDir("big")
	if err != nil || len(list) != entries {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	for i := 1; i < len(list); i++ {
		if list[i-1].Name() >= list[i].Name() {
			t.Fatalf("%q comes before %q", list[i-1].Name(), list[i].Name())
		}
	}
	for i := 0; i < entries; i += 37 {
		if b, err := fs.ReadFile(fsys, "big/"+name(i)); err != nil || string(b) != fmt.Sprint(i) {
			t.Fatalf("%q holds %q, %v", name(i), b, err)
		}
	}
	for _, absent := range []string{"!", "0", "5-", "~", name(entries)} {
		if _, err := fsys.Stat("big/" + absent); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want %v", absent, err, fs.ErrNotExist)
		}
	}
}

// holes reads as zeros with a few words at given places.
type holes struct {
	size, pos int64
	words     map[int64]string
}

func (h *holes) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), h.size-h.pos))
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	for at, word := range h.words {
		for i := range len(word) {
			if off := at + int64(i) - h.pos; off >= 0 && off < int64(n) {
				p[off] = word[i]
			}
		}
	}
	h.pos += int64(n)
	return n, nil
}

func TestSparseFiles(t *testing.T) {
	for name, h := range map[string]*holes{
		"all":          {size: 200000},
		"over 4 GiB":   {size: 5<<30 + 123, words: map[int64]string{0: "a", 4<<30 + 70000: "middle", 5<<30 + 120: "end"}},
		"over 16 GiB":  {size: 17<<30 + 70001, words: map[int64]string{100<<10 + 17: "late in a chunk", 16<<30 + 1<<17 - 1: "x"}},
		"end is zero":  {size: 1 << 20, words: map[int64]string{1: "a"}},
		"start is":     {size: 1<<20 + 1, words: map[int64]string{1 << 20: "a"}},
		"across":       {size: 1 << 20, words: map[int64]string{1<<16 - 2: "across"}},
		"short of one": {size: 1<<16 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			fsys, name := image(t, erofs.Options{}, func(w *erofs.Writer) error {
				if err := w.Add(&erofs.Entry{Name: "f", Size: h.size}, h); err != nil {
					return err
				}
				return file("next", "content")(w)
			})
			if info, err := os.Stat(name); err != nil || info.Size() > 2<<20 {
				t.Errorf("the image takes %d bytes, %v", info.Size(), err)
			}
			f, err := fsys.Open("f")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if info, err := f.Stat(); err != nil || info.Size() != h.size {
				t.Fatalf("size is %d, %v", info.Size(), err)
			}
			for at := range h.words {
				compareAt(t, f.(io.ReaderAt), h, max(0, at-100))
			}
			compareAt(t, f.(io.ReaderAt), h, h.size-100)
			if h.size < 1<<30 {
				h.pos = 0
				want, _ := io.ReadAll(h)
				if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
					t.Errorf("content differs, %v", err)
				}
			}
			if got, err := fs.ReadFile(fsys, "next"); err != nil || string(got) != "content" {
				t.Errorf("behind it: %q, %v", got, err)
			}
		})
	}
}

func compareAt(t *testing.T, r io.ReaderAt, h *holes, at int64) {
	t.Helper()
	n := min(200, h.size-at)
	got, want := make([]byte, n), make([]byte, n)
	if _, err := r.ReadAt(got, at); err != nil {
		t.Fatal(err)
	}
	h.pos = at
	if _, err := io.ReadFull(h, want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("at %d: %q, want %q", at, got, want)
	}
}

// repeats stands for content without holes that is too large to keep: at byte
// i it has a value that depends on the MiB that i lies in.
type repeats struct{ size, pos int64 }

func (r *repeats) Read(p []byte) (int, error) {
	if r.pos == r.size {
		return 0, io.EOF
	}
	end := min(r.size, (r.pos>>20+1)<<20)
	n := copy(p[:min(int64(len(p)), end-r.pos)], runs[byte(r.pos>>20)|1][:])
	r.pos += int64(n)
	return n, nil
}

// runs are blocks of equal bytes, by value.
var runs = func() (r [256]*[4096]byte) {
	for i := range r {
		r[i] = (*[4096]byte)(bytes.Repeat([]byte{byte(i)}, 4096))
	}
	return r
}()

// blocks is a destination that keeps blocks of equal bytes once.
type blocks struct{ list []*[4096]byte }

func (b *blocks) WriteAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at, from := int((off+int64(n))>>12), int(off+int64(n))&4095
		for at >= len(b.list) {
			b.list = append(b.list, runs[0])
		}
		whole := runs[p[n]]
		if from == 0 && len(p) >= n+4096 && bytes.Equal(p[n:n+4096], whole[:]) {
			b.list[at] = whole
			n += 4096
			continue
		}
		block := *b.list[at]
		n += copy(block[from:], p[n:])
		b.list[at] = &block
	}
	return len(p), nil
}

func (b *blocks) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at := int((off + int64(n)) >> 12)
		if at >= len(b.list) {
			return n, io.EOF
		}
		n += copy(p[n:], b.list[at][(off+int64(n))&4095:])
	}
	return len(p), nil
}

func TestDenseFileOver4GiB(t *testing.T) {
	size := int64(4<<30 + 1<<20 + 77)
	dst := &blocks{}
	w := erofs.Create(dst, erofs.Options{})
	// The attributes come a second and third time behind the file.
	attrs := map[string][]byte{"user.shared": []byte("shared")}
	for _, e := range []struct {
		name    string
		content io.Reader
		size    int64
	}{
		{"before", nil, 0},
		{"f", &repeats{size: size}, size},
		{"dir/after", strings.NewReader("after"), 5},
		{"dir/last", strings.NewReader("last"), 4},
	} {
		if err := w.Add(&erofs.Entry{Name: e.name, Size: e.size, Xattrs: attrs}, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Link("dir/f", "f"); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Close(); err != nil || n != int64(len(dst.list))<<12 {
		t.Fatalf("Close gave %d, %v", n, err)
	}
	fsys, err := erofs.Open(dst)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"before", "f", "dir/after", "dir/last"} {
		if got, err := fsys.Xattrs(name); err != nil || string(got["user.shared"]) != "shared" || len(got) != 1 {
			t.Errorf("attributes of %q: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{"dir/after": "after", "dir/last": "last"} {
		if got, err := fs.ReadFile(fsys, name); err != nil || string(got) != want {
			t.Errorf("%q holds %q, %v", name, got, err)
		}
	}
	f, err := fsys.Open("dir/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; at += 97<<20 + 4001 {
		n, err := f.(io.ReaderAt).ReadAt(buf, at)
		if want := int(min(size-at, 1<<20)); n != want || err != nil && err != io.EOF {
			t.Fatalf("%d bytes at %d, %v", n, at, err)
		}
		want := make([]byte, n)
		if _, err := io.ReadFull(&repeats{size, at}, want); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[:n], want) {
			t.Fatalf("other content at %d", at)
		}
	}
	if n, err := f.(io.ReaderAt).ReadAt(buf[:100], size-77); n != 77 || err != io.EOF || buf[76] != byte(size>>20)|1 {
		t.Errorf("at the end: %d bytes, %v, the last %d", n, err, buf[76])
	}
}
