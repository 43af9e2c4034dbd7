//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/image/disk/compose"
)

const testData = "capstan-data"

// exported writes a disk as export does, and returns its file.
func exported(t testing.TB, size int64) *os.File {
	t.Helper()
	d := compose.Disk{Size: size, Kernel: []byte("kernel"), Config: []byte("{}"), Root: strings.NewReader("root"), RootSize: 4}
	l, err := d.Layout()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := errors.Join(f.Truncate(size), d.Write(t.Context(), f, l)); err != nil {
		t.Fatal(err)
	}
	return f
}

// failing is a disk whose power fails in the write after so many, of which
// only a part comes to be.
type failing struct {
	*os.File
	writes, part int
}

var errPower = errors.New("no power")

func (f *failing) WriteAt(p []byte, at int64) (int, error) {
	f.writes--
	if f.writes < 0 {
		// A sector is whole or not there.
		n := min(len(p)-1, f.part*sectorSize) / sectorSize * sectorSize
		if _, err := f.File.WriteAt(p[:n], at); err != nil {
			return 0, err
		}
		return n, errPower
	}
	return f.File.WriteAt(p, at)
}

// TestGrowTable: after a power cut at any moment the first table is whole and
// either the old or the new one, and the next boot completes the work.
func TestGrowTable(t *testing.T) {
	if _, err := exec.LookPath("sgdisk"); err != nil {
		t.Fatal("sgdisk is missing: apt-get install gdisk")
	}
	const before = 200 << 20
	for _, after := range []int64{201 << 20, 1<<30 + 512, 3 << 40} {
		wantLast := uint64(after>>20-1)<<11 - 1
		for writes := 0; ; writes++ {
			f := exported(t, before)
			first, old, err := growTable(f, before/sectorSize, testData)
			if err != nil || old != 199<<11-1 {
				t.Fatalf("%d, %v", old, err)
			}
			if err := f.Truncate(after); err != nil {
				t.Fatal(err)
			}
			sectors := uint64(after / sectorSize)
			_, _, cut := growTable(&failing{f, writes, writes % 3}, sectors, testData)
			if cut != nil && !errors.Is(cut, errPower) {
				t.Fatal(cut)
			}
			table, err := readTable(f, sectors, testData)
			if err != nil {
				t.Fatalf("power cut in write %d: %v", writes, err)
			}
			if _, last := table.bounds(); last != old && last != wantLast {
				t.Errorf("power cut in write %d: the partition ends at %d", writes, last)
			}
			start, last, err := growTable(f, sectors, testData)
			if err != nil || start != first || last != wantLast {
				t.Errorf("after a power cut in write %d: %d to %d, %v", writes, start, last, err)
			}
			out, err := exec.Command("sgdisk", "-v", f.Name()).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "No problems found") {
				t.Errorf("after a power cut in write %d: %v\n%s", writes, err, out)
			}
			if _, _, err := growTable(&failing{f, 0, 0}, sectors, testData); err != nil {
				t.Errorf("a whole table is written again: %v", err)
			}
			if cut == nil {
				if writes < 5 {
					t.Errorf("%d writes", writes)
				}
				break
			}
		}
	}
}

// TestGrowTableTwice: a disk that is enlarged again before the work was done.
func TestGrowTableTwice(t *testing.T) {
	for writes := range 6 {
		f := exported(t, 200<<20)
		_, _, _ = growTable(&failing{f, writes, 0}, 300<<11, testData)
		if err := f.Truncate(400 << 20); err != nil {
			t.Fatal(err)
		}
		if _, last, err := growTable(f, 400<<11, testData); err != nil || last != 399<<11-1 {
			t.Errorf("%d, %v", last, err)
		}
		out, err := exec.Command("sgdisk", "-v", f.Name()).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No problems found") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// TestOtherTables: a table that is not whole, or is another program's, is left
// alone.
func TestOtherTables(t *testing.T) {
	sgdisk := func(args ...string) func(*testing.T, *os.File) {
		return func(t *testing.T, f *os.File) {
			if out, err := exec.Command("sgdisk", append(args, f.Name())...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	flip := func(at int64) func(*testing.T, *os.File) {
		return func(t *testing.T, f *os.File) {
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, at); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{b[0] ^ 1}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, change := range map[string]func(*testing.T, *os.File){
		"a broken header":                flip(512 + 40),
		"a broken entry":                 flip(1024 + 3*128 + 40),
		"no partition of the name":       sgdisk("-c", "4:other"),
		"two of the name":                sgdisk("-c", "3:"+testData),
		"no config":                      sgdisk("-c", "2:other"),
		"another partition at the end":   sgdisk("-d", "4", "-n", "4:100M:120M", "-c", "4:"+testData, "-n", "5:150M:160M"),
		"another table's place":          sgdisk("-j", "40"),
		"another number of entries":      sgdisk("-S", "256"),
		"a partition in the table's way": sgdisk("-a", "1", "-n", "6:40:60"),
		"no table":                       func(t *testing.T, f *os.File) { sgdisk("-Z")(t, f) },
	} {
		t.Run(name, func(t *testing.T) {
			f := exported(t, 200<<20)
			change(t, f)
			if err := f.Truncate(300 << 20); err != nil {
				t.Fatal(err)
			}
			if _, _, err := growTable(&failing{f, 0, 0}, 300<<11, testData); !errors.Is(err, errNotOurs) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("a smaller disk", func(t *testing.T) {
		if _, _, err := growTable(&failing{exported(t, 200<<20), 0, 0}, 150<<11, testData); !errors.Is(err, errNotOurs) {
			t.Errorf("%v", err)
		}
	})
}

// TestForeignMBR: a first sector with other partitions stays as it is.
func TestForeignMBR(t *testing.T) {
	f := exported(t, 200<<20)
	mbr := make([]byte, sectorSize)
	if _, err := f.ReadAt(mbr, 0); err != nil {
		t.Fatal(err)
	}
	for sectors, want := range map[uint64][]byte{200 << 11: nil, 300 << 11: {0xff, 0x5f, 0x09, 0}, 1 << 40: {0xff, 0xff, 0xff, 0xff}} {
		got := coverMBR(mbr, sectors)
		if (got == nil) != (want == nil) || got != nil && !bytes.Equal(got[458:462], want) {
			t.Errorf("%d sectors: %x", sectors, got)
		}
	}
	for at, b := range map[int]byte{450: 0x83, 454: 2, 466: 0x83, 510: 0} {
		other := bytes.Clone(mbr)
		other[at] = b
		if coverMBR(other, 300<<11) != nil {
			t.Errorf("with %#x at %d it is changed", b, at)
		}
	}
}

// FuzzGrowTable: whatever a disk says, nothing is written but the tables.
func FuzzGrowTable(f *testing.F) {
	disk := exported(f, 140<<20)
	head := make([]byte, 34*sectorSize)
	if _, err := disk.ReadAt(head, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(head[:sectorSize], head[sectorSize:sectorSize+gptHeader], head[1024:1024+512], uint32(1<<20))
	f.Fuzz(func(t *testing.T, mbr, header, entries []byte, sectors uint32) {
		d := &guarded{size: int64(sectors) * sectorSize}
		copy(d.head[:sectorSize], mbr)
		copy(d.head[sectorSize:], header)
		copy(d.head[1024:], entries)
		resum(d.head[:])
		if _, _, err := growTable(d, uint64(sectors), testData); err == nil && d.wrong != "" {
			t.Error(d.wrong)
		}
	})
}

// guarded is a disk of which only the beginning is kept.
type guarded struct {
	head  [1 << 20]byte
	size  int64
	wrong string
}

func (g *guarded) ReadAt(p []byte, at int64) (int, error) {
	clear(p)
	if at < int64(len(g.head)) {
		copy(p, g.head[at:])
	}
	return len(p), nil
}

func (g *guarded) WriteAt(p []byte, at int64) (int, error) {
	end := at + int64(len(p))
	if at < 0 || end > g.size || end > gptReserved*sectorSize && at < g.size-33*sectorSize {
		g.wrong = fmt.Sprintf("%d bytes are written at %d of %d", len(p), at, g.size)
	}
	if at < int64(len(g.head)) {
		copy(g.head[at:], p)
	}
	return len(p), nil
}

func (g *guarded) Sync() error { return nil }

// resum makes the checksums right, so that what they guard is looked at.
func resum(head []byte) {
	le := binary.LittleEndian
	header := head[sectorSize:][:gptHeader]
	le.PutUint32(header[88:], crc32.ChecksumIEEE(head[1024:][:gptTable]))
	clear(header[16:20])
	le.PutUint32(header[16:], crc32.ChecksumIEEE(header))
}
