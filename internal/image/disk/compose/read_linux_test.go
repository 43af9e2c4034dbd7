package compose

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"capstan/guest/api"
	"capstan/internal/image/disk"
)

// kernelOf is the beginning of a kernel that says its version.
func kernelOf(version string) []byte {
	b := make([]byte, 4096)
	copy(b[kernelMark:], "HdrS")
	binary.LittleEndian.PutUint16(b[kernelVersion:], 0x400)
	copy(b[versionBase+0x400:], version)
	return b
}

// entriesOf reads a disk's partition table.
func entriesOf(t *testing.T, f *os.File) []disk.Entry {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := disk.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	table, err := d.ReadTable()
	if err != nil || table.Kind != "gpt" || table.Damaged || len(table.Entries) != 4 {
		t.Fatalf("%+v, %v", table, err)
	}
	return table.Entries
}

// TestRead: what went into a disk is read from it, and what is wrong is told.
func TestRead(t *testing.T) {
	cfg := api.Config{Version: api.Version, Args: []string{"/bin/x", "a b"}, Root: Root(),
		Image: api.Image{Name: "x:1", Digest: "sha256:1", Memory: 1 << 20, CPUs: 2, Ports: []string{"80/tcp"}}}
	doc, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	root := rootImage(t)
	path, l := write(t, Disk{Size: 20 << 30, Kernel: kernelOf("6.12.1-capstan (x) #1"), Config: doc}, root)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries := entriesOf(t, f)
	c, err := Read(f, entries)
	if err != nil || len(c.Odd) > 0 || !reflect.DeepEqual(c.Config, cfg) || c.Kernel != "6.12.1-capstan" || c.Root != int64(len(root)) ||
		c.Data != l.parts[3].size || c.Free >= c.Data || c.Free < c.Data-64<<20 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := Read(f, entries[2:]); !errors.Is(err, ErrOther) {
		t.Errorf("without a config: %v", err)
	}
	if c, err := Read(f, entries[1:2]); err != nil || len(c.Odd) != 3 {
		t.Errorf("with nothing but a config: %+v, %v", c, err)
	}
	for i, want := range []string{"no kernel is where it should be", "looking for beginning of value", "not a readable EROFS image", "no ext4 file system"} {
		if _, err := io.CopyN(io.NewOffsetWriter(f, l.parts[i].start), strings.NewReader(strings.Repeat("x", 4<<20)), min(l.parts[i].size, 4<<20)); err != nil {
			t.Fatal(err)
		}
		c, err := Read(f, entries)
		if err != nil || len(c.Odd) != i+1 || !strings.Contains(errors.Join(c.Odd...).Error(), want) {
			t.Errorf("%v, %v; want %q", c.Odd, err, want)
		}
	}
}

// FuzzRead: no disk of ours that somebody has changed makes trouble.
func FuzzRead(f *testing.F) {
	super := make([]byte, 1024) // of ext4, with 16 blocks of 1 KiB
	super[0x38], super[0x39], super[4], super[0xc] = 0x53, 0xef, 16, 8
	f.Add([]byte(`{"version":1,"args":["x"]}`), kernelOf("6.12 x"), []byte("\xe2\xe1\xf5\xe0"), super)
	f.Fuzz(func(t *testing.T, config, kernel, root, data []byte) {
		const each, kernelAt = 64 << 10, (espData + clusterKernel - 2) * sector
		b := make([]byte, 3*each+kernelAt+each)
		copy(b, config)
		copy(b[each+1024:2*each], root)
		copy(b[2*each+1024:3*each], data)
		copy(b[3*each+kernelAt:], kernel)
		c, err := Read(bytes.NewReader(b), []disk.Entry{
			{Name: espPartition, Start: 3 * each, Size: kernelAt + each}, {Name: api.ConfigPartition, Size: each},
			{Name: rootPartition, Start: each, Size: each}, {Name: dataPartition, Start: 2 * each, Size: each},
		})
		if err != nil || c.Root > each || c.Free < 0 || c.Free > c.Data || c.Data > each {
			t.Errorf("%+v, %v", c, err)
		}
	})
}
