package erofs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// image is a destination for images that are large and almost empty.
type image map[int64]*[blockSize]byte

func (m image) WriteAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at, from := (off+int64(n))>>blockBits, (off+int64(n))%blockSize
		if m[at] == nil {
			m[at] = new([blockSize]byte)
		}
		n += copy(m[at][from:], p[n:])
	}
	return len(p), nil
}

func (m image) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at, from := (off+int64(n))>>blockBits, (off+int64(n))%blockSize
		if m[at] == nil {
			return n, io.EOF
		}
		n += copy(p[n:], m[at][from:])
	}
	return len(p), nil
}

// skip makes a Writer go on at a block, as if all before it were written.
func skip(t *testing.T, w *Writer, block uint32) {
	t.Helper()
	w.space = space{next: block}
	if err := w.out.flush(); err != nil {
		t.Fatal(err)
	}
	w.out.base = int64(block) << blockBits
}

func TestWindowKeepsEveryWrite(t *testing.T) {
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i*i>>8 ^ i)
	}
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 0))
		dst := image{}
		o := newWindow(dst)
		want := make([]byte, 8<<20)
		for end := int64(0); end < 7<<20; end = o.end() {
			off := max(0, end-int64(rng.IntN(3<<20))+1<<20)
			p := make([]byte, rng.IntN(1<<uint(rng.IntN(20))))
			copy(p, noise[rng.IntN(1<<19):])
			switch rng.IntN(3) {
			case 0:
				off = end
			case 1:
				buf, err := o.tail(off, len(p))
				if err != nil || (buf == nil) != (off < end) {
					t.Fatalf("tail at %d of %d: %v", off, end, err)
				}
				if buf != nil {
					o.commit(copy(buf, p))
					copy(want[off:], p)
					continue
				}
			}
			if err := o.write(p, off); err != nil {
				t.Fatal(err)
			}
			copy(want[off:], p)
		}
		if err := o.flush(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, o.end())
		if _, err := dst.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want[:o.end()]) {
			t.Fatalf("seed %d: other bytes", seed)
		}
	}
}

// No two runs or items may share a byte.
func TestSpaceGivesNothingTwice(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 0))
		s := space{next: 1}
		owner := map[int64]bool{} // units of 32 bytes
		var held []extent
		mark := func(off, n int64, taken bool) {
			for u := off / slotSize; u < (off+n+slotSize-1)/slotSize; u++ {
				if owner[u] == taken {
					t.Fatalf("seed %d: byte %d given twice", seed, u*slotSize)
				}
				owner[u] = taken
			}
		}
		for range 400 {
			switch rng.IntN(3) {
			case 0:
				n := int64(inodeSize + rng.IntN(1<<uint(rng.IntN(15))))
				off, err := s.item(n, slotSize)
				if err != nil {
					t.Fatal(err)
				}
				if n <= blockSize && off>>blockBits != (off+n-1)>>blockBits {
					t.Fatalf("%d bytes at %d lie in two blocks", n, off)
				}
				mark(off, n, true)
			case 1:
				n := int64(1 + rng.IntN(30))
				start, err := s.blocks(n)
				if err != nil {
					t.Fatal(err)
				}
				used := rng.Int64N(n + 1)
				s.shrink(extent{start, uint32(n)}, used)
				mark(int64(start)<<blockBits, used<<blockBits, true)
				held = append(held, extent{start, uint32(used)})
			case 2:
				if len(held) > 0 {
					i := rng.IntN(len(held))
					e := held[i]
					held = append(held[:i], held[i+1:]...)
					mark(int64(e.start)<<blockBits, int64(e.count)<<blockBits, false)
					s.release(e)
				}
			}
		}
	}
}

// Shared attributes can be named up to 16 GiB from the start; behind that,
// each inode has its own.
func TestXattrsFarFromTheStart(t *testing.T) {
	dst := image{}
	w := Create(dst, Options{})
	attrs := map[string][]byte{"user.a": []byte("value")}
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		if i == 1 {
			skip(t, w, 1<<22-1)
		}
		if i == 3 {
			attrs["user.b"] = []byte("other")
			skip(t, w, 1<<30)
		}
		if err := w.Add(&Entry{Name: name, Xattrs: attrs}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	fsys, err := Open(dst)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		got, err := fsys.Xattrs(name)
		if err != nil || string(got["user.a"]) != "value" || len(got) != 1+i/3 {
			t.Errorf("%q has %q, %v", name, got, err)
		}
	}
}

func TestLargestImage(t *testing.T) {
	w := Create(image{}, Options{MaxContent: 1 << 62})
	skip(t, w, maxBlocks-3)
	add := func(name string, size int64) error {
		return w.Add(&Entry{Name: name, Size: size}, io.LimitReader(endless{}, size))
	}
	var limit *LimitError
	if err := add("large", 1<<20); !errors.As(err, &limit) {
		t.Errorf("error for a large file is %v, want a LimitError", err)
	}
	if err := w.Add(&Entry{Name: "hole", Size: 1 << 20}, bytes.NewReader(make([]byte, 1<<20))); err != nil {
		t.Errorf("a file without data: %v", err)
	}
	if err := add("small", 4096); err != nil {
		t.Errorf("a file that fits: %v", err)
	}
	if err := add("small too", 4096); err != nil {
		t.Errorf("another: %v", err)
	}
	if err := add("too many", 4096); !errors.As(err, &limit) {
		t.Errorf("error for the last is %v, want a LimitError", err)
	}
	if err := w.Add(&Entry{Name: "huge", Size: 1<<61 + 1}, strings.NewReader("")); !errors.As(err, &limit) {
		t.Errorf("error for a huge file is %v, want a LimitError", err)
	}
}

// endless reads as bytes that are not zero.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}
