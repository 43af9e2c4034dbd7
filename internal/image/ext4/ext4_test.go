package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
)

// device records what is written where, as one of the given size.
type device struct {
	size  int64
	parts map[int64][]byte
	total int64
}

func (e *device) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > e.size {
		return 0, fmt.Errorf("%d bytes at %d of %d", len(p), off, e.size)
	}
	if _, twice := e.parts[off]; twice {
		return 0, fmt.Errorf("offset %d written twice", off)
	}
	e.parts[off] = bytes.Clone(p)
	e.total += int64(len(p))
	return len(p), nil
}

func format(t *testing.T, o Options) *device {
	t.Helper()
	e := &device{size: o.Size, parts: map[int64][]byte{}}
	if err := Format(e, o); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestFormatWritesLittle(t *testing.T) {
	for _, c := range []struct{ size, most int64 }{
		{MinSize, 32 << 10},
		{64 << 20, 32 << 10},
		{10 << 30, 96 << 10},
		{100 << 30, 256 << 10},
		{1 << 40, 2 << 20},
		{MaxSize, 28 << 20},
	} {
		e := format(t, Options{Size: c.size})
		if e.total > c.most {
			t.Errorf("size %d: %d bytes written, more than %d", c.size, e.total, c.most)
		}
		offsets := make([]int64, 0, len(e.parts))
		for off := range e.parts {
			offsets = append(offsets, off)
		}
		slices.Sort(offsets)
		for i, off := range offsets[1:] {
			if before := offsets[i]; before+int64(len(e.parts[before])) > off {
				t.Errorf("size %d: the writes at %d and %d overlap", c.size, before, off)
			}
		}
	}
}

func TestFormatIsDeterministic(t *testing.T) {
	o := Options{Size: 1 << 30, Label: "data", Dirs: []string{"upper", "work"}}
	first := format(t, o).parts
	if !maps.EqualFunc(first, format(t, o).parts, bytes.Equal) {
		t.Error("the same options made different bytes")
	}
	for name, change := range map[string]func(*Options){
		"UUID":    func(o *Options) { o.UUID[3] = 1 },
		"label":   func(o *Options) { o.Label = "other" },
		"dirs":    func(o *Options) { o.Dirs = nil },
		"size":    func(o *Options) { o.Size += blockSize },
		"journal": func(o *Options) { o.JournalSize = 8 << 20 },
	} {
		changed := o
		change(&changed)
		if bytes.Equal(first[superOffset], format(t, changed).parts[superOffset]) {
			t.Errorf("another %s made the same superblock", name)
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	many := make([]string, maxDirs+1)
	long := make([]string, 17)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for i := range long {
		long[i] = strings.Repeat(string(rune('a'+i)), maxName)
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "less than the minimum"},
		{Options{Size: -blockSize}, "less than the minimum"},
		{Options{Size: math.MinInt64}, "less than the minimum"},
		{Options{Size: MinSize - blockSize}, "less than the minimum"},
		{Options{Size: MaxSize + blockSize}, "more than the maximum"},
		{Options{Size: math.MaxInt64}, "more than the maximum"},
		{Options{Size: MinSize + 512}, "not a multiple of 4096"},
		{Options{Size: MinSize, Label: "seventeen letters"}, "label"},
		{Options{Size: MinSize, Label: "a\x00b"}, "label"},
		{Options{Size: MinSize, JournalSize: minJournal - blockSize}, "journal"},
		{Options{Size: MinSize, JournalSize: 12 << 20}, "journal"},
		{Options{Size: 1 << 30, JournalSize: maxJournal + blockSize}, "journal"},
		{Options{Size: 1 << 30, JournalSize: minJournal + 1}, "journal"},
		{Options{Size: MinSize, Dirs: []string{""}}, "cannot be the name"},
		{Options{Size: MinSize, Dirs: []string{".."}}, "cannot be the name"},
		{Options{Size: MinSize, Dirs: []string{"a/b"}}, "cannot be the name"},
		{Options{Size: MinSize, Dirs: []string{"a", "a"}}, "cannot be the name"},
		{Options{Size: MinSize, Dirs: []string{strings.Repeat("n", 256)}}, "cannot be the name"},
		{Options{Size: MinSize, Dirs: many}, "65 directories are more than 64"},
		{Options{Size: MinSize, Dirs: long}, "do not fit"},
	} {
		e := &device{size: math.MaxInt64, parts: map[int64][]byte{}}
		err := Format(e, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.o, err, c.want)
		}
		if e.total > 0 {
			t.Errorf("%+v: refused, yet %d bytes written", c.o, e.total)
		}
	}
}

// failing fails the write of number fail, counted from 0.
type failing struct{ n, fail int }

var errDisk = errors.New("disk full")

func (f *failing) WriteAt(p []byte, _ int64) (int, error) {
	f.n++
	if f.n > f.fail {
		return 0, errDisk
	}
	return len(p), nil
}

func TestFormatReportsEachFailedWrite(t *testing.T) {
	o := Options{Size: 1 << 30, Dirs: []string{"upper"}}
	writes := len(format(t, o).parts)
	for i := range writes {
		if err := Format(&failing{fail: i}, o); !errors.Is(err, errDisk) {
			t.Errorf("write %d failed: error %v", i, err)
		}
	}
	if err := Format(&failing{fail: writes}, o); err != nil {
		t.Errorf("no write failed: error %v", err)
	}
}

func TestChecksum(t *testing.T) {
	// The check value of CRC-32C in RFC 3720's convention, which inverts.
	if got := ^checksum(^uint32(0), []byte("123456789")); got != 0xe3069283 {
		t.Errorf("checksum is %#x", got)
	}
	if one, two := checksumNumber(7, 0x04030201), checksum(7, []byte{1, 2, 3, 4}); one != two {
		t.Errorf("checksum of a number is %#x, of its bytes %#x", one, two)
	}
}

func TestHasSuper(t *testing.T) {
	want := []uint32{0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343, 625, 729}
	var got []uint32
	for g := range uint32(1000) {
		if hasSuper(g) {
			got = append(got, g)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("groups with a superblock: %d, want %d", got, want)
	}
}

// FuzzLayout checks that any size that is accepted has room for all that is
// put there.
func FuzzLayout(f *testing.F) {
	for _, size := range []int64{MinSize, 64 << 20, 128<<20 + blockSize, 130 << 20, 131 << 20, 8 << 30, 1<<40 - blockSize} {
		f.Add(size, int64(0))
		f.Add(size, size/2)
	}
	f.Fuzz(func(t *testing.T, size, journal int64) {
		o := Options{Size: size, JournalSize: journal}
		if o.check() != nil {
			return
		}
		l := newLayout(o)
		last := l.groups - 1
		if l.blocks > uint64(size)/blockSize || uint64(size)/blockSize-l.blocks > 700 {
			t.Errorf("%d blocks in %d bytes", l.blocks, size)
		}
		for _, g := range []uint32{0, last / 2, last} {
			if l.usedBlocks(g) >= l.groupBlocks(g) {
				t.Errorf("group %d: %d of %d blocks used", g, l.usedBlocks(g), l.groupBlocks(g))
			}
		}
		free, overhead := l.totals()
		if used := free + overhead + l.dirBlocks; used != l.blocks {
			t.Errorf("%d blocks free, %d overhead, %d directories: not %d", free, overhead, l.dirBlocks, l.blocks)
		}
	})
}

func BenchmarkFormat100G(b *testing.B) {
	for b.Loop() {
		e := &device{size: 100 << 30, parts: map[int64][]byte{}}
		if err := Format(e, Options{Size: 100 << 30}); err != nil {
			b.Fatal(err)
		}
	}
}
