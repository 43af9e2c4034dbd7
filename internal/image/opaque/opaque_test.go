package opaque_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"capstan/internal/image/disk"
	"capstan/internal/image/disk/disktest"
	"capstan/internal/image/disk/qcow2"
	"capstan/internal/image/opaque"
	"capstan/internal/repo"
)

func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Fatal("qemu-img is missing: apt-get install qemu-utils")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// convert returns a raw disk as qemu-img's arguments make it.
func convert(t testing.TB, raw []byte, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(from, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, append(append([]string{"convert", "-f", "raw"}, args...), from, to)...)
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB) (*repo.Store, repo.Name) {
	t.Helper()
	store, err := repo.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := repo.ParseName("old/disk:1")
	if err != nil {
		t.Fatal(err)
	}
	return store, name
}

// TestImport: a disk of any format, packed or not, is kept, described, and
// becomes an instance's disk that reads as what went in.
func TestImport(t *testing.T) {
	raw := disktest.BIOS("/old.so --flag", false)
	gz := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(b)
		w.Close()
		return out.Bytes()
	}
	zst := func(b []byte) []byte {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(b, nil)
	}
	for _, tt := range []struct {
		name   string
		format disk.Format
		args   []string
		pack   func([]byte) []byte
	}{
		{"raw", disk.Raw, []string{"-O", "raw"}, nil},
		{"raw gz", disk.Raw, []string{"-O", "raw"}, gz},
		{"qcow2", disk.QCOW2, []string{"-O", "qcow2"}, nil},
		{"qcow2 gz", disk.QCOW2, []string{"-O", "qcow2"}, gz},
		{"qcow2 zst", disk.QCOW2, []string{"-O", "qcow2"}, zst},
		{"vmdk", disk.VMDK, []string{"-O", "vmdk"}, nil},
		{"vmdk stream", disk.VMDK, []string{"-O", "vmdk", "-o", "subformat=streamOptimized"}, nil},
		{"vdi", disk.VDI, []string{"-O", "vdi"}, nil},
		{"vhd", disk.VHD, []string{"-O", "vpc", "-o", "force_size=on"}, nil},
		{"vhd fixed", disk.Raw, []string{"-O", "vpc", "-o", "subformat=fixed,force_size=on"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, name := open(t)
			b := convert(t, raw, tt.args...)
			if tt.pack != nil {
				b = tt.pack(b)
			}
			created := time.Date(2015, 4, 1, 12, 0, 0, 0, time.UTC)
			entry, _, err := opaque.Import(t.Context(), store, name, bytes.NewReader(b), opaque.Options{Version: "v1", Description: "old", Build: "make", Created: created})
			if err != nil {
				t.Fatal(err)
			}
			img, got, err := store.Image(t.Context(), name.String())
			if err != nil {
				t.Fatal(err)
			}
			if got.Disk != string(tt.format) || got.Digest != entry.Digest || !got.Created.Equal(created) || got.Architecture != "amd64" {
				t.Errorf("the store has %+v", got)
			}
			config, _, err := opaque.Read(img)
			want := opaque.Config{Created: created, Architecture: "amd64", Format: tt.format, Size: disktest.Size,
				Firmware: "bios", Bus: "virtio", OSv: true, Cmdline: "/old.so --flag"}
			if err != nil || config != want {
				t.Errorf("config %+v, %v; want %+v", config, err, want)
			}
			m, err := img.Manifest()
			if err != nil || m.ArtifactType != opaque.ArtifactType || len(m.Annotations) != 4 {
				t.Errorf("manifest %+v, %v", m, err)
			}
			checkOpened(t, store, img, entry.Digest, raw)
			checkPrepared(t, store, img, entry.Digest, raw)
			if problems := store.Check(t.Context(), true); len(problems) > 0 {
				t.Errorf("Check: %v", problems)
			}
		})
	}
}

// checkOpened reads the image's disk, before and after it is cached.
func checkOpened(t *testing.T, store *repo.Store, img v1.Image, digest v1.Hash, raw []byte) {
	t.Helper()
	for range 2 {
		d, file, err := opaque.Open(t.Context(), store, img, digest)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size))
		if err != nil || !bytes.Equal(got, raw) || file.Close() != nil {
			t.Errorf("opened, it does not read as what went in: %d bytes, %v", len(got), err)
		}
	}
}

// checkPrepared makes an instance's disks, with and without another command
// line, and reads them by qemu-img.
func checkPrepared(t *testing.T, store *repo.Store, img v1.Image, digest v1.Hash, raw []byte) {
	t.Helper()
	for _, line := range []string{"", "/new.so"} {
		dir := t.TempDir()
		want, edit := raw, (func([]byte) error)(nil)
		if line != "" {
			want = bytes.Clone(raw)
			edit = func(head []byte) error { return disk.SetOSvLine(head, line) }
			if err := edit(want); err != nil {
				t.Fatal(err)
			}
		}
		if err := opaque.Prepare(t.Context(), store, img, digest, dir, edit); err != nil {
			t.Fatal(err)
		}
		overlay, out := filepath.Join(dir, opaque.OverlayFile), filepath.Join(dir, "out")
		qemuImg(t, "check", overlay)
		qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", overlay, out)
		got, err := os.ReadFile(out)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("with the line %q the disk does not read as what went in: %d bytes, %v", line, len(got), err)
		}
		if info, err := os.Stat(filepath.Join(dir, opaque.BaseFile)); err != nil || info.Mode().Perm()&0o222 != 0 {
			t.Errorf("the image's disk can be written to: %v, %v", info.Mode(), err)
		}
	}
}

// TestSparse: what is not there costs nothing, neither in the store nor in an
// instance.
func TestSparse(t *testing.T) {
	store, name := open(t)
	path := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(path, disktest.BIOS("", false), 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 512 << 20
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entry, _, err := opaque.Import(t.Context(), store, name, f, opaque.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if entry.Size > 1<<20 {
		t.Errorf("it takes %d bytes of the store", entry.Size)
	}
	img, _, err := store.Image(t.Context(), name.String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := opaque.Prepare(t.Context(), store, img, entry.Digest, dir, nil); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("du", "-k", filepath.Join(dir, opaque.BaseFile)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if kib, _, _ := strings.Cut(string(out), "\t"); len(kib) > 3 {
		t.Errorf("an instance's disk takes %s KiB", kib)
	}
}

// TestCopy: copying takes as long as what is on the disk, whatever its size is.
func TestCopy(t *testing.T) {
	const size, far = 60 << 40, 59<<40 + 4096
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := qcow2.NewWriter(f, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, far} {
		if _, err := w.WriteAt([]byte{1, 2, 3}, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := disk.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	var got pieces
	var told []int64
	err = opaque.Copy(t.Context(), &got, d, func(done int64) {
		if told = append(told, done); len(told) > 10 {
			t.Fatalf("it goes through zeros: %d", told)
		}
	})
	if err != nil || len(got) != 2 || got[0] != 0 || got[1] != far-far%(64<<10) || told[len(told)-1] != size {
		t.Errorf("%v: it wrote at %d, and told of %d", err, got, told)
	}
}

// pieces is where was written.
type pieces []int64

func (p *pieces) WriteAt(b []byte, at int64) (int, error) {
	*p = append(*p, at)
	return len(b), nil
}

// TestRefused: what cannot be an image leaves nothing in the store.
func TestRefused(t *testing.T) {
	raw := disktest.BIOS("", false)
	qcow := convert(t, raw, "-O", "qcow2")
	backed := bytes.Clone(qcow)
	copy(backed[8:], []byte{0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 11}) // at 1024, of 11 bytes
	copy(backed[1024:], "/etc/passwd")
	for _, tt := range []struct {
		name string
		in   []byte
		o    opaque.Options
		says string
	}{
		{"nothing", nil, opaque.Options{}, "empty"},
		{"a text", []byte(strings.Repeat("no disk\n", 1000)), opaque.Options{}, "no disk that boots"},
		{"zeros", make([]byte, 1<<20), opaque.Options{}, "no disk that boots"},
		{"too large", raw, opaque.Options{Limit: 1 << 20}, "which is the bound"},
		{"truncated", qcow[:len(qcow)/2], opaque.Options{}, "truncated"},
		{"a backing file", backed, opaque.Options{}, "backing file"},
		{"a descriptor of a host's file", []byte("# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/passwd\" 0\n"), opaque.Options{}, "other files"},
		{"damaged gzip", []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3}, opaque.Options{}, "reading the disk"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, name := open(t)
			_, _, err := opaque.Import(t.Context(), store, name, bytes.NewReader(tt.in), tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Import: %v; want one that says %q", err, tt.says)
			}
			if list, err := store.List(t.Context()); err != nil || len(list) > 0 {
				t.Errorf("the store has %v, %v", list, err)
			}
		})
	}
}

// TestForged: an image whose layer is not the disk that its config promises
// does not become an instance's.
func TestForged(t *testing.T) {
	raw := disktest.BIOS("", false)
	other := convert(t, raw, "-O", "vdi")
	for name, forge := range map[string]func(b []byte) []byte{
		"another format":              func([]byte) []byte { return other },
		"a backing file":              func(b []byte) []byte { b[12], b[14], b[19] = 0, 4, 11; return b },
		"a disk of another size":      func([]byte) []byte { return convert(t, raw[:5<<20], "-O", "qcow2") },
		"a disk that leads beyond it": func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			store, n := open(t)
			entry, _, err := opaque.Import(t.Context(), store, n, bytes.NewReader(convert(t, raw, "-O", "qcow2")), opaque.Options{})
			if err != nil {
				t.Fatal(err)
			}
			img, _, err := store.Image(t.Context(), n.String())
			if err != nil {
				t.Fatal(err)
			}
			forged, err := forgedImage(t.Context(), store, img, forge)
			if err != nil {
				t.Fatal(err)
			}
			if entry, err = store.Put(t.Context(), n, forged); err != nil {
				t.Fatal(err)
			}
			if img, _, err = store.Image(t.Context(), n.String()); err != nil {
				t.Fatal(err)
			}
			if err := opaque.Prepare(t.Context(), store, img, entry.Digest, t.TempDir(), nil); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

// forgedImage is img with another layer of the same type.
func forgedImage(ctx context.Context, store *repo.Store, img v1.Image, forge func([]byte) []byte) (v1.Image, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	r, err := layers[0].Compressed()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	w, err := store.LayerWriter(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(forge(b)); err != nil {
		return nil, err
	}
	layer, err := w.Commit()
	if err != nil {
		return nil, err
	}
	return opaque.WithLayer(img, layer)
}
