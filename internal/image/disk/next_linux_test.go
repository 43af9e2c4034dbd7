package disk_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestNext: what Next passes over is zeros, and of a disk that is mostly that
// it passes over most.
func TestNext(t *testing.T) {
	const piece = 64 << 10
	raw := make([]byte, 24<<20)
	for _, at := range []int{0, 10<<20 + 512, len(raw) - 512} {
		rand.NewChaCha8([32]byte{byte(at)}).Read(raw[at : at+512])
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			d, err := open(t, convert(t, raw, kind.args...))
			if err != nil {
				t.Fatal(err)
			}
			got, seen := make([]byte, d.Size), 0
			for at := int64(0); at < d.Size; at += piece {
				next, err := d.Next(at)
				if err != nil || next < at || next > d.Size {
					t.Fatalf("behind %d is %d, %v", at, next, err)
				}
				if at = next - next%piece; next == d.Size {
					break
				}
				if _, err := d.ReadAt(got[at:min(at+piece, d.Size)], at); err != nil {
					t.Fatal(err)
				}
				seen++
			}
			if !bytes.Equal(got[:len(raw)], raw) {
				t.Error("it passed over what is no zero")
			}
			// Blocks have up to 2 MiB, and three of them hold something.
			if most := 3 * 2 << 20 / piece; seen > most && kind.name != "vdi static" {
				t.Errorf("of %d pieces it passed over all but %d", d.Size/piece, seen)
			}
		})
	}
}

// TestNextBeyond: the end of a file within a sector is no data.
func TestNextBeyond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, 700), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := open(t, path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size))
	if want := append(bytes.Repeat([]byte{1}, 700), make([]byte, 324)...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("it reads as %d bytes, %x, %v", len(got), got[700:], err)
	}
	if next, err := d.Next(700); err != nil || next != d.Size {
		t.Errorf("behind its file's end is %d, %v", next, err)
	}
}
