package export_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"capstan/internal/image/disk"
	"capstan/internal/image/disk/disktest"
	"capstan/internal/image/disk/export"
)

// parts are what is on a disk: so many bytes at each offset.
type parts map[int64]int

// write writes the parts, of bytes that their offset determines: a half of each
// cannot be compressed.
func (p parts) write(_ context.Context, w io.WriterAt) error {
	w = &disktest.Forward{W: w}
	for _, at := range slices.Sorted(maps.Keys(p)) {
		if _, err := w.WriteAt(content(at, p[at]), at); err != nil {
			return err
		}
	}
	return nil
}

func content(at int64, n int) []byte {
	b := bytes.Repeat([]byte("some text "), n/10+1)[:n]
	rand.NewChaCha8([32]byte{byte(at), byte(at >> 8), byte(at >> 16), byte(at >> 32), 1}).Read(b[n/2:])
	return b
}

// disks are of sizes and with holes that meet the edges of what formats keep a
// disk in.
var disks = map[string]struct {
	size  int64
	parts parts
}{
	"empty":       {1 << 20, nil},
	"a sector":    {512, parts{0: 512}},
	"small":       {3 << 20, parts{0: 512, 4096: 4096, 1 << 20: 65536, 3<<20 - 512: 512}},
	"odd":         {5<<20 + 512*77, parts{1: 70000, 130000: 2, 1 << 20: 1, 2<<20 + 100: 1<<20 + 412, 5<<20 + 512*76: 512}},
	"whole":       {4 << 20, parts{0: 4 << 20}},
	"zeros in it": {8 << 20, parts{0: 10, 65536 * 3: 10, 65536*4 - 1: 65536 + 2, 8<<20 - 65536: 65536}},
	"over 2 GiB":  {3<<30 + 1<<20, parts{0: 1000, 2<<30 - 100: 200 << 10, 3 << 30: 1 << 20}},
	"over 4 GiB":  {5 << 30, parts{0: 1000, 4<<30 - 70000: 200 << 10, 5<<30 - 512: 512}},
	"whole GiB":   {9 << 30, parts{0: 1000, 1<<30 - 100: 70000, 3<<30 + 1000: 100, 8<<30 + 5: 70000}},
	"in pieces":   {1 << 30, everyOther(100)},
	"very large":  {1 << 40, parts{0: 1000, 512<<30 + 4096: 100, 1<<40 - 512: 512}},
}

// everyOther has a byte in so many pieces of the disk.
func everyOther(n int64) parts {
	p := parts{}
	for i := range n {
		p[i<<20+i] = 1
	}
	return p
}

// formats says of each format what QEMU calls it, and whether qemu-img check
// knows it.
var formats = map[export.Format]struct {
	qemu    string
	checked bool
}{
	export.Raw:        {"raw", false},
	export.QCOW2:      {"qcow2", true},
	export.VMDK:       {"vmdk", true},
	export.VMDKStream: {"vmdk", true},
	export.VDI:        {"vdi", true},
	export.VHD:        {"vpc", false},
	export.VHDFixed:   {"vpc", false},
}

func qemuImg(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Fatal("qemu-img is missing: apt-get install qemu-utils")
	}
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Errorf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// create writes a disk to a file of a name.
func create(t *testing.T, path string, write func(f *os.File) error) string {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(write(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWrite: a disk is the same in every format, as QEMU reads it and as we do,
// written to a file or to a stream.
func TestWrite(t *testing.T) {
	for name, d := range disks {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			of := export.Disk{Size: d.size, Name: "a \"disk\".vmdk", ID: [16]byte{0xfe, 0xff, 0xff, 0xff, 1, 2, 3}, Content: d.parts.write}
			raw := create(t, filepath.Join(dir, "raw"), func(f *os.File) error { return export.Write(t.Context(), f, export.Raw, of) })
			for format, known := range formats {
				file := create(t, filepath.Join(dir, string(format)), func(f *os.File) error { return export.Write(t.Context(), f, format, of) })
				checkDisk(t, file, raw, known.qemu, known.checked, d.size, d.parts)
				if !format.Sequential() || d.size >= 1<<30 && format != export.VMDKStream {
					continue
				}
				stream := create(t, filepath.Join(dir, "stream"), func(f *os.File) error {
					return export.Stream(t.Context(), struct{ io.Writer }{f}, format, of)
				})
				checkDisk(t, stream, raw, known.qemu, known.checked, d.size, d.parts)
			}
		})
	}
}

// tool runs one of the judges.
func tool(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestGCE: GNU tar and Go's reader find the disk in the archive, and holes take
// no space in it.
func TestGCE(t *testing.T) {
	for name, d := range disks {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			of := export.Disk{Size: d.size, Content: d.parts.write}
			path := filepath.Join(dir, "disk.tar.gz")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(export.Write(t.Context(), f, export.GCE, of), f.Close())
			if d.size%export.GCE.Unit() != 0 {
				if err == nil {
					t.Errorf("a disk of %d bytes", d.size)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() > 1<<21 {
				t.Errorf("the archive: %v, %v", info, err)
			}
			readTarGz(t, path, d.size)
			if got := tool(t, dir, "tar", "-tzf", path); got != "disk.raw\n" {
				t.Errorf("tar lists %q", got)
			}
			tool(t, dir, "tar", "-xzf", path)
			raw := filepath.Join(dir, "disk.raw")
			readDisk(t, raw, d.size, d.parts)
			if info, err := os.Stat(raw); err != nil || info.Sys().(*syscall.Stat_t).Blocks > 1<<13 {
				t.Errorf("tar did not make holes: %v", err)
			}
			goReads(t, path, raw, d.size)
		})
	}
}

// goReads compares what archive/tar reads with what GNU tar has unpacked.
func goReads(t *testing.T, archive, raw string, size int64) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	h, err := r.Next()
	if err != nil || h.Name != "disk.raw" || h.Size != size || h.Typeflag != tar.TypeGNUSparse {
		t.Fatalf("%+v, %v", h, err)
	}
	if size > 2<<30 {
		return // it reads the zeros
	}
	want, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(a)) {
		_, err := io.ReadFull(r, a)
		_, werr := io.ReadFull(want, b)
		if err != nil || werr != nil || !bytes.Equal(a, b) {
			t.Fatalf("at %d: %v, %v, or other bytes", at, err, werr)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("behind the disk: %v", err)
	}
}

// TestOVA: the archive has the descriptor, the disk and the manifest in this
// order; the manifest is of both, and the descriptor says what they are.
func TestOVA(t *testing.T) {
	for _, name := range []string{"small", "zeros in it", "over 4 GiB"} {
		d, dir := disks[name], t.TempDir()
		of := export.Disk{Size: d.size, ID: [16]byte{1}, Content: d.parts.write, Machine: export.Machine{Name: "a<b/ü", CPUs: 2, Memory: 300 << 20}}
		raw := create(t, filepath.Join(dir, "raw"), func(f *os.File) error { return export.Write(t.Context(), f, export.Raw, of) })
		path := create(t, filepath.Join(dir, "m.ova"), func(f *os.File) error { return export.Write(t.Context(), f, export.OVA, of) })
		readOVA(t, path, d.size, d.parts)
		if got := tool(t, dir, "tar", "-tf", path); got != "a_b__.ovf\na_b__-disk1.vmdk\na_b__.mf\n" {
			t.Errorf("tar lists %q", got)
		}
		tool(t, dir, "tar", "-xf", path)
		checkDisk(t, filepath.Join(dir, "a_b__-disk1.vmdk"), raw, "vmdk", true, d.size, d.parts)
		manifest, err := os.ReadFile(filepath.Join(dir, "a_b__.mf"))
		if err != nil {
			t.Fatal(err)
		}
		sums := regexp.MustCompile(`(?m)^SHA256\((.*)\)= (.*)$`).ReplaceAll(manifest, []byte("$2  $1"))
		if err := os.WriteFile(filepath.Join(dir, "sums"), sums, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := tool(t, dir, "sha256sum", "--strict", "-c", "sums"); strings.Count(got, ": OK\n") != 2 {
			t.Errorf("sha256sum: %s", got)
		}
		var e struct {
			File struct {
				Size int64 `xml:"size,attr"`
			} `xml:"References>File"`
			Disk struct {
				Capacity int64 `xml:"capacity,attr"`
			} `xml:"DiskSection>Disk"`
			Name string `xml:"VirtualSystem>Name"`
			Item []struct {
				ResourceType, VirtualQuantity int64
			} `xml:"VirtualSystem>VirtualHardwareSection>Item"`
		}
		text, err := os.ReadFile(filepath.Join(dir, "a_b__.ovf"))
		if err == nil {
			err = xml.Unmarshal(text, &e)
		}
		info, serr := os.Stat(filepath.Join(dir, "a_b__-disk1.vmdk"))
		if err != nil || serr != nil {
			t.Fatal(err, serr)
		}
		if e.File.Size != info.Size() || e.Disk.Capacity != d.size || e.Name != "a<b/ü" || e.Item[0].VirtualQuantity != 2 || e.Item[1].VirtualQuantity != 300 {
			t.Errorf("the descriptor says %+v", e)
		}
	}
}

func checkDisk(t *testing.T, file, raw, qemu string, checked bool, size int64, p parts) {
	t.Helper()
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(qemuImg(t, "info", "--output=json", "-f", qemu, file)), &info); err != nil || info.Size != size {
		t.Errorf("%s: QEMU sees %d bytes of %d, %v", file, info.Size, size, err)
	}
	// QEMU takes minutes to check a large VMDK, and compares what is not there,
	// too.
	if checked && (size <= 1<<33 || qemu == "qcow2") {
		qemuImg(t, "check", "-f", qemu, file)
	}
	if size <= 1<<33 {
		qemuImg(t, "compare", "-f", "raw", "-F", qemu, raw, file)
	}
	readDisk(t, file, size, p)
}

// readOVA reads the disk in an OVA as we do.
func readOVA(t *testing.T, file string, size int64, p parts) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := disk.InOVA(bytes.NewReader(b), int64(len(b)))
	if err != nil || inside == nil {
		t.Fatalf("no disk in the OVA: %v", err)
	}
	d, err := disk.Open(inside, inside.Size())
	if err != nil || d.Size != size || d.Format != disk.VMDK {
		t.Fatalf("%+v, %v", d, err)
	}
	for at, n := range p {
		got := make([]byte, n)
		if _, err := d.ReadAt(got, at); err != nil || !bytes.Equal(got, content(at, n)) {
			t.Errorf("%s: what is at %d reads as something else, %v", file, at, err)
		}
	}
	var refused *disk.Error
	if _, err := disk.InOVA(bytes.NewReader(b[:20<<10]), 20<<10); !errors.As(err, &refused) {
		t.Errorf("a truncated OVA: %v", err)
	}
	if other, err := disk.InOVA(bytes.NewReader(b[512:]), int64(len(b)-512)); other != nil || err != nil {
		t.Errorf("what is no OVA: %v, %v", other, err)
	}
}

func readTarGz(t *testing.T, file string, size int64) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := disk.InTarGz(bytes.NewReader(b), int64(len(b))); got != size {
		t.Errorf("we see a disk of %d bytes in the archive, not %d", got, size)
	}
	if got := disk.InTarGz(bytes.NewReader(b[1:]), int64(len(b)-1)); got != 0 {
		t.Errorf("we see a disk of %d bytes where there is none", got)
	}
}

// readDisk reads a disk as we do.
func readDisk(t *testing.T, file string, size int64, p parts) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := disk.Open(f, stat.Size())
	if err != nil {
		t.Errorf("%s: %v", file, err)
		return
	}
	if err := d.Check(); err != nil || d.Size != size {
		t.Errorf("%s: we see %d bytes of %d, %v", file, d.Size, size, err)
	}
	for at, n := range p {
		got := make([]byte, n)
		if _, err := d.ReadAt(got, at); err != nil || !bytes.Equal(got, content(at, n)) {
			t.Errorf("%s: what is at %d reads as something else, %v", file, at, err)
		}
	}
}

// TestSame: the same disk makes the same bytes.
func TestSame(t *testing.T) {
	for _, format := range export.Formats() {
		d := disks["odd"]
		if format == export.GCE {
			d = disks["in pieces"]
		}
		sum := func() [32]byte {
			path := create(t, filepath.Join(t.TempDir(), "disk"), func(f *os.File) error {
				return export.Write(t.Context(), f, format, export.Disk{Size: d.size, ID: [16]byte{1}, Content: d.parts.write})
			})
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return sha256.Sum256(b)
		}
		if sum() != sum() {
			t.Errorf("%s: the same disk came out in other bytes", format)
		}
	}
}

// TestSparse: a large disk takes little more space than a small one.
func TestSparse(t *testing.T) {
	for format := range formats {
		used := func(size int64) int64 {
			path := create(t, filepath.Join(t.TempDir(), "disk"), func(f *os.File) error {
				d := export.Disk{Size: size, Content: parts{0: 1 << 20, size - 512: 512}.write}
				return export.Write(t.Context(), f, format, d)
			})
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			return info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		// A table of 4 bytes a MiB is the most.
		if small, large := used(1<<30), used(100<<30); large > small+512<<10 {
			t.Errorf("%s: 1 GiB takes %d bytes, 100 GiB %d", format, small, large)
		}
	}
}

// TestFails: what the content fails with, and what the file does, is the error.
func TestFails(t *testing.T) {
	ours := errors.New("no content")
	for format := range formats {
		for name, tt := range map[string]struct {
			mode    int
			content func(context.Context, io.WriterAt) error
			want    error
		}{
			"content":  {os.O_RDWR, func(context.Context, io.WriterAt) error { return ours }, ours},
			"file":     {os.O_RDONLY, parts{0: 1 << 20}.write, syscall.EBADF},
			"too much": {os.O_RDWR, parts{1<<20 - 512: 1024}.write, nil},
		} {
			f, err := os.OpenFile(filepath.Join(t.TempDir(), "disk"), tt.mode|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			err = export.Write(t.Context(), f, format, export.Disk{Size: 1 << 20, Content: tt.content})
			if name == "file" && format == export.Raw {
				tt.want = syscall.EINVAL // of truncating it
			}
			if !errors.Is(err, tt.want) && tt.want != nil || tt.want == nil && err == nil && format != export.Raw && format != export.VHDFixed {
				t.Errorf("%s, %s: %v", format, name, err)
			}
			f.Close()
		}
	}
	for _, size := range []int64{0, -512, 511, 1 << 62} {
		for format := range formats {
			f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
			if err != nil {
				t.Fatal(err)
			}
			if err := export.Write(t.Context(), f, format, export.Disk{Size: size, Content: parts{}.write}); err == nil && format != export.Raw {
				t.Errorf("%s of %d bytes", format, size)
			}
			f.Close()
		}
	}
	if err := export.Stream(t.Context(), io.Discard, export.QCOW2, export.Disk{Size: 1 << 20}); err == nil {
		t.Error("qcow2 goes to a stream")
	}
	if err := export.Write(t.Context(), nil, "vhdx", export.Disk{Size: 1 << 20}); err == nil || !strings.Contains(err.Error(), "vhdx") {
		t.Error(fmt.Sprint("a format that is none: ", err))
	}
}

// TestSpace: a file takes no more space than it is long, whatever was reserved
// for it before it was written.
func TestSpace(t *testing.T) {
	const size = 64 << 20
	p := parts{0: 5 << 20, 7<<20 + 1000: 1 << 20, 30 << 20: 300 << 10}
	for _, format := range []export.Format{export.QCOW2, export.VMDK, export.VDI, export.VHD} {
		path := create(t, filepath.Join(t.TempDir(), string(format)), func(f *os.File) error {
			return export.Write(t.Context(), f, format, export.Disk{Size: size, Content: p.write})
		})
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		const tables = 64 << 10 // the file system's own
		if takes := info.Sys().(*syscall.Stat_t).Blocks * 512; takes > info.Size()+tables || info.Size() > size/4 {
			t.Errorf("%s: %d bytes take %d", format, info.Size(), takes)
		}
	}
}
