package disk_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"capstan/internal/image/disk"
)

// partitioned is a disk with a GPT of sgdisk's.
func partitioned(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sgdisk", "-n", "1:2048:4095", "-t", "1:ef00", "-c", "1:EFI system partition",
		"-n", "5:4096:6143", "-t", "5:8300", "-c", "5:Grüße", path).CombinedOutput()
	if err != nil {
		t.Fatalf("sgdisk (apt-get install gdisk): %v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readTable(t testing.TB, b []byte) disk.Table {
	t.Helper()
	d, err := disk.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	table, err := d.ReadTable()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestReadTable(t *testing.T) {
	le := binary.LittleEndian
	whole := partitioned(t)
	esp := disk.Entry{Number: 1, Name: "EFI system partition", Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", Start: 1 << 20, Size: 1 << 20}
	data := disk.Entry{Number: 5, Name: "Grüße", Type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", Start: 2 << 20, Size: 1 << 20}
	mbr := make([]byte, 1<<20)
	le.PutUint16(mbr[510:], 0xaa55)
	mbr[446+16+4] = 0xef
	le.PutUint32(mbr[446+16+8:], 1)
	le.PutUint32(mbr[446+16+12:], 2)
	change := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return b
	}
	nowhere := data
	nowhere.Start, nowhere.Size = 0, 0
	for _, tt := range []struct {
		name string
		disk []byte
		want disk.Table
	}{
		{"GPT", whole, disk.Table{Kind: "gpt", Entries: []disk.Entry{esp, data}}},
		{"a changed header", change(whole, 512+56, whole[512+56]+1), disk.Table{Kind: "gpt", Damaged: true, Entries: []disk.Entry{esp, data}}},
		{"a partition that leads beyond the disk", change(whole, 1024+4*128+47, 1), disk.Table{Kind: "gpt", Damaged: true, Entries: []disk.Entry{esp, nowhere}}},
		{"no header", change(whole, 512, 0), disk.Table{Kind: "gpt", Damaged: true}},
		{"a table beyond the disk", change(whole, 512+74, 1), disk.Table{Kind: "gpt", Damaged: true}},
		{"MBR", mbr, disk.Table{Kind: "mbr", Entries: []disk.Entry{{Number: 2, Type: "0xef", Start: 512, Size: 1024}}}},
		{"MBR beyond the disk", change(mbr, 446+16+15, 1), disk.Table{Kind: "mbr", Damaged: true, Entries: []disk.Entry{{Number: 2, Type: "0xef"}}}},
		{"nothing", make([]byte, 4096), disk.Table{}},
	} {
		if got := readTable(t, tt.disk); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v; want %+v", tt.name, got, tt.want)
		}
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add(partitioned(f)[:40<<10])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 512 {
			return
		}
		d, err := disk.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		table, err := d.ReadTable()
		if err != nil {
			return
		}
		for _, e := range table.Entries {
			if e.Start < 0 || e.Size < 0 || e.Start > d.Size || e.Size > d.Size-e.Start {
				t.Errorf("%+v on a disk of %d bytes", e, d.Size)
			}
		}
	})
}
