package compose

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"capstan/internal/image/disk/disktest"
)

// random returns bytes that no two seeds have in common.
func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// rootImage makes a real root.
func rootImage(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, "root")
	if err := errors.Join(os.Mkdir(tree, 0o755), os.WriteFile(filepath.Join(tree, "data"), random(1, 3<<20+77), 0o644)); err != nil {
		t.Fatal(err)
	}
	tool(t, "erofs-utils", "mkfs.erofs", image, tree)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tool runs one of the judges, which must find nothing.
func tool(t *testing.T, debianPackage, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, debianPackage)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t *testing.T, d Disk, root []byte) (string, Layout) {
	t.Helper()
	d.Root, d.RootSize = bytes.NewReader(root), int64(len(root))
	l, err := d.Layout()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(l.Size), d.Write(t.Context(), &disktest.Forward{W: f}, l)); err != nil {
		t.Fatal(err)
	}
	return path, l
}

// extract copies a partition to a file of its own.
func extract(t *testing.T, disk string, p partition) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "partition")
	tool(t, "coreutils", "dd", "if="+disk, "of="+path, "bs=1M", "conv=sparse", "status=none",
		fmt.Sprint("skip=", p.start>>20), fmt.Sprint("count=", p.size>>20))
	if err := os.Truncate(path, p.size); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDisk: no tool finds anything wrong with a disk, and it holds what went
// in.
func TestDisk(t *testing.T) {
	kernel, root, config := random(2, 9<<20+5), rootImage(t), []byte(`{"version":1}`)
	for _, size := range []int64{0, 200 << 20, 20 << 30} {
		t.Run(fmt.Sprint(size>>20, " MiB"), func(t *testing.T) {
			disk, l := write(t, Disk{Size: size, Kernel: kernel, Config: config}, root)
			if out := tool(t, "gdisk", "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
				t.Errorf("sgdisk: %s", out)
			}
			table := tool(t, "gdisk", "sgdisk", "-p", disk)
			for _, name := range []string{"EF00  EFI system partition", "8300  capstan-config", "8300  capstan-root", "8300  capstan-data"} {
				if !strings.Contains(table, name) {
					t.Errorf("no %q in\n%s", name, table)
				}
			}
			esp := extract(t, disk, l.parts[0])
			tool(t, "dosfstools", "fsck.vfat", "-n", "-v", esp)
			tool(t, "e2fsprogs", "e2fsck", "-f", "-n", fmt.Sprint(disk, "?offset=", l.parts[3].start))
			rootPart := extract(t, disk, l.parts[2])
			tool(t, "erofs-utils", "fsck.erofs", rootPart)
			loader := filepath.Join(t.TempDir(), "loader")
			tool(t, "mtools", "mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", loader)
			for path, want := range map[string][]byte{loader: kernel, rootPart: root, extract(t, disk, l.parts[1]): config} {
				got, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) < len(want) || !bytes.Equal(got[:len(want)], want) || len(bytes.Trim(got[len(want):], "\x00")) > 0 {
					t.Errorf("%s: what went in does not come out", path)
				}
			}
		})
	}
}

// TestSame: the same disk is the same bytes, and another one has other IDs.
func TestSame(t *testing.T) {
	root, other := random(3, 1<<20), random(4, 1<<20)
	sum := func(d Disk, root []byte) (sum [32]byte, ids string) {
		d.Kernel, d.Size = []byte("kernel"), 200<<20
		disk, _ := write(t, d, root)
		b, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(b), string(b[sector+56 : sector+72])
	}
	first, ids := sum(Disk{Config: []byte("{}"), Seed: "1"}, root)
	if again, _ := sum(Disk{Config: []byte("{}"), Seed: "1"}, root); again != first {
		t.Error("the same disk came out in other bytes")
	}
	for name, id := range map[string]string{
		"root":   second(sum(Disk{Config: []byte("{}"), Seed: "2"}, other)),
		"config": second(sum(Disk{Config: []byte("[]"), Seed: "1"}, root)),
	} {
		if id == ids {
			t.Errorf("a disk with another %s has the same ID", name)
		}
	}
}

func second[A, B any](_ A, b B) B { return b }

// TestUnit: a disk's size is a whole number of units, given or not.
func TestUnit(t *testing.T) {
	for given, want := range map[int64]int64{0: 11 << 30, 1: 1 << 30, 1 << 30: 1 << 30, 1<<30 + 1: 2 << 30} {
		d := Disk{Size: given, Unit: 1 << 30, Kernel: []byte("kernel"), Config: []byte("{}"), RootSize: 1 << 20}
		if l, err := d.Layout(); err != nil || l.Size != want {
			t.Errorf("of %d bytes: %d, %v; not %d", given, l.Size, err, want)
		}
	}
}

// TestSparse: a large disk takes the space of a small one.
func TestSparse(t *testing.T) {
	used := func(size int64, root []byte) int64 {
		disk, l := write(t, Disk{Size: size, Kernel: []byte("kernel"), Config: []byte("{}")}, root)
		info, err := os.Stat(disk)
		if err != nil || info.Size() != l.Size || l.Size != size {
			t.Fatalf("%v, %v", info, err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	small, large := used(2<<30, random(5, 1<<20)), used(4<<40, random(5, 1<<20))
	if large > small+16<<10 || small > 8<<20 {
		t.Errorf("2 GiB take %d bytes, 4 TiB %d", small, large)
	}
	if holes := used(2<<30, make([]byte, 100<<20)); holes > small {
		t.Errorf("a root of zeros takes %d bytes", holes-small)
	}
}

func TestTooSmall(t *testing.T) {
	d := Disk{Size: 1 << 20, Kernel: []byte("kernel"), Config: []byte("{}"), RootSize: 5 << 30}
	_, err := d.Layout()
	var small *SmallError
	if !errors.As(err, &small) {
		t.Fatalf("%v", err)
	}
	d.Size = small.Needed
	if _, err := d.Layout(); err != nil {
		t.Errorf("a disk of the size that is needed: %v", err)
	}
	if d.Size--; d.Size > 0 {
		d.Size -= alignment
	}
	if _, err := d.Layout(); err == nil {
		t.Error("a disk of less than is needed is taken")
	}
	for _, d := range []Disk{{Size: 65 << 40}, {Size: 1<<63 - 1}, {Kernel: make([]byte, espSize)}} {
		if _, err := d.Layout(); err == nil {
			t.Errorf("a disk of %d bytes and a guest of %d are taken", d.Size, len(d.Kernel))
		}
	}
}

// TestRootTold: a root that is not as long as it was said is an error, and so
// is an end of the context.
func TestRootTold(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for name, tt := range map[string]struct {
		ctx  context.Context
		root string
		want error
	}{
		"short":       {t.Context(), "12345", io.ErrUnexpectedEOF},
		"none":        {t.Context(), "", io.EOF},
		"long":        {t.Context(), "12345678901", nil},
		"interrupted": {ended, "1234567890", context.Canceled},
	} {
		d := Disk{Root: strings.NewReader(tt.root), RootSize: 10}
		err := d.copyRoot(tt.ctx, discard{})
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
