package osv_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/image/disk"
	"capstan/internal/image/disk/disktest"
	"capstan/internal/image/opaque"
	"capstan/internal/image/osv"
	"capstan/internal/image/rofs"
	"capstan/internal/repo"
)

// loader is a disk with OSv's boot sector, of an odd size.
func loader() []byte { return append(disktest.BIOS("/default.so", false), "odd"...) }

func examine(t testing.TB, raw []byte) (*osv.Base, error) {
	t.Helper()
	d, err := disk.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return osv.Examine(d)
}

func tree(t testing.TB, files ...rofs.File) *rofs.Tree {
	t.Helper()
	root, err := rofs.Plan(t.Context(), rofs.Files("test", files))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// compose makes a disk on a base.
func compose(t testing.TB, raw []byte, img osv.Image) []byte {
	t.Helper()
	base, err := examine(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	img.Base = base
	var b bytes.Buffer
	if err := img.Write(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// withRoot is a loader with something in the second partition.
func withRoot(content []byte) []byte {
	raw := make([]byte, 8<<20+len(content))
	copy(raw, loader())
	copy(raw[8<<20:], content)
	disk.SetPartition(raw, 1, disk.Partition{Type: 0x83, Start: 8 << 20, Size: int64(len(content))})
	return raw
}

// zfs is as much of a ZFS device as tells it from others.
func zfs() []byte {
	b := make([]byte, 1<<20)
	copy(b[128<<10+5<<10:], []byte{0x0c, 0xb1, 0xba, 0})
	return b
}

func TestExamine(t *testing.T) {
	broken := compose(t, loader(), osv.Image{Root: tree(t)})
	copy(broken[8<<20+24:], "\xff\xff\xff")
	beyond := withRoot(zfs())
	for name, tt := range map[string]struct {
		raw  []byte
		kind osv.Kind
		fail string
		full bool
	}{
		"loader":     {raw: loader(), kind: osv.Loader},
		"ZFS":        {raw: withRoot(zfs()), kind: osv.ZFS, full: true},
		"unknown":    {raw: withRoot(make([]byte, 1<<20)), kind: osv.Other, full: true},
		"ROFS":       {raw: compose(t, loader(), osv.Image{Root: tree(t)}), kind: osv.ROFS},
		"broken":     {raw: broken, fail: "damaged"},
		"beyond":     {raw: beyond[:9<<20-512], fail: "beyond its end"},
		"not OSv's":  {raw: bytes.Replace(loader(), []byte{0x10, 0, 63, 0}, []byte{0x10, 0, 62, 0}, 1), fail: "no disk of OSv's"},
		"too little": {raw: loader()[:600], kind: osv.Loader},
	} {
		t.Run(name, func(t *testing.T) {
			base, err := examine(t, tt.raw)
			if tt.fail != "" {
				var own interface{ Hint() string }
				if err == nil || !strings.Contains(err.Error(), tt.fail) || !errors.As(err, &own) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if base.Kind != tt.kind || (base.CanTakeFiles() != nil) != tt.full || base.Kind.String() == "" {
				t.Errorf("it is %v, %v", base.Kind, base.CanTakeFiles())
			}
		})
	}
}

// TestCompose: a disk is its base's kernel, the line, and the root where the
// partition table says.
func TestCompose(t *testing.T) {
	content := make([]byte, 3<<20+17)
	rand.NewChaCha8([32]byte{1}).Read(content)
	files := []rofs.File{{Path: "a/b", Content: content}, {Path: "c"}}
	raw := loader()
	made := compose(t, raw, osv.Image{Root: tree(t, files...), Line: "/new.so"})
	if !bytes.Equal(made[disk.OSvHead:len(raw)], raw[disk.OSvHead:]) || !bytes.Equal(made[:446], raw[:446]) {
		t.Error("the kernel or the boot sector is another one")
	}
	if len(made)%(1<<20) != 0 || disk.OSvLine(made) != "/new.so" {
		t.Errorf("%d bytes, with the line %q", len(made), disk.OSvLine(made))
	}
	p := disk.Partitions(made)
	if p[1].Type != 0x83 || p[1].Start != 8<<20 || p[0].Type|p[2].Type|p[3].Type != 0 {
		t.Errorf("its partitions: %+v", p)
	}
	check := func(made []byte, path string, want []byte) {
		t.Helper()
		base, err := examine(t, made)
		if err != nil {
			t.Fatal(err)
		}
		e, ok := base.Root.Lookup(path)
		got, err := io.ReadAll(base.Root.Content(e))
		if !ok || err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %v, %d bytes", path, ok, err, len(got))
		}
	}
	check(made, "/a/b", content)
	if again := compose(t, raw, osv.Image{Root: tree(t, files...), Line: "/new.so"}); !bytes.Equal(made, again) {
		t.Error("made again, it is another one")
	}
	// A smaller root takes the larger one's place; without one it stays.
	small := compose(t, made, osv.Image{Root: tree(t, rofs.File{Path: "x", Content: []byte("y")}), Line: "/x.so"})
	if len(small) != 9<<20 {
		t.Errorf("the smaller one has %d bytes", len(small))
	}
	check(small, "x", []byte("y"))
	same := compose(t, made, osv.Image{Line: "/other.so", Size: 20 << 20})
	if len(same) != 20<<20 || disk.OSvLine(same) != "/other.so" {
		t.Errorf("%d bytes, with the line %q", len(same), disk.OSvLine(same))
	}
	check(same, "a/b", content)
}

func TestComposeRefuses(t *testing.T) {
	crowded := withRoot(zfs())
	disk.SetPartition(crowded, 2, disk.Partition{Type: 0x83, Start: 9 << 20, Size: 512})
	for name, tt := range map[string]struct {
		raw []byte
		img osv.Image
	}{
		"a long line":           {loader(), osv.Image{Line: strings.Repeat("x", disk.MaxOSvLine+1)}},
		"a zero in the line":    {loader(), osv.Image{Line: "a\x00b"}},
		"too small":             {loader(), osv.Image{Size: 1 << 20}},
		"a partition behind it": {crowded, osv.Image{Root: tree(t)}},
	} {
		base, err := examine(t, tt.raw)
		if err != nil {
			t.Fatal(err)
		}
		tt.img.Base = base
		var refused *osv.Error
		if err := tt.img.Write(t.Context(), io.Discard); !errors.As(err, &refused) || refused.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStore: what is stored is the disk; what fails leaves nothing.
func TestStore(t *testing.T) {
	store, err := repo.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := repo.ParseName("osv/app")
	if err != nil {
		t.Fatal(err)
	}
	base, err := examine(t, loader())
	if err != nil {
		t.Fatal(err)
	}
	img := osv.Image{Base: base, Root: tree(t, rofs.File{Path: "a", Content: []byte("b")}), Line: "/a.so", Notes: opaque.Options{Version: "1"}}
	entry, config, err := img.Store(t.Context(), store, name)
	if err != nil {
		t.Fatal(err)
	}
	if !config.OSv || config.Cmdline != "/a.so" || config.Size != 9<<20 || entry.Disk != "raw" {
		t.Errorf("%+v, %+v", config, entry)
	}
	stored, _, err := store.Image(t.Context(), name.String())
	if err != nil {
		t.Fatal(err)
	}
	d, file, err := opaque.Open(t.Context(), store, stored, entry.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if back, err := osv.Examine(d); err != nil || back.Kind != osv.ROFS {
		t.Errorf("%+v, %v", back, err)
	}

	failed := errors.New("the source is gone")
	reads := 0
	gone := rofs.Source{Name: "s", Each: func(_ context.Context, each func(*tar.Header, io.Reader) error) error {
		if reads++; reads > 1 {
			return failed
		}
		return each(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1}, strings.NewReader("a"))
	}}
	if img.Root, err = rofs.Plan(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	other, _ := repo.ParseName("osv/other")
	if _, _, err := img.Store(t.Context(), store, other); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	if _, _, err := store.Image(t.Context(), other.String()); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("what failed is in the store: %v", err)
	}
}

// FuzzExamine: no disk makes it fail otherwise than by an error.
func FuzzExamine(f *testing.F) {
	f.Add(withRoot(zfs())[:512], []byte("x"))
	f.Add(compose(f, loader(), osv.Image{Root: tree(f)})[:512], compose(f, loader(), osv.Image{Root: tree(f, rofs.File{Path: "a"})})[8<<20:8<<20+1024])
	f.Fuzz(func(t *testing.T, mbr, root []byte) {
		raw := make([]byte, 8<<20+512*(len(root)/512+1))
		copy(raw, loader()[:512])
		if len(mbr) >= 512 {
			copy(raw[446:510], mbr[446:])
		}
		copy(raw[8<<20:], root)
		base, err := examine(t, raw)
		if err != nil || base.Root == nil {
			return
		}
		for e := range base.Root.Entries() {
			io.Copy(io.Discard, base.Root.Content(e))
		}
	})
}
