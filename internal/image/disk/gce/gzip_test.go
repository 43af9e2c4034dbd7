package gce

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
)

// stream is some of everything: what does not get smaller, what does, and zeros.
func stream(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 2*partSize+77)
	rand.NewChaCha8([32]byte{1}).Read(b)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(b, program[:min(len(program), 12*partSize)]...), make([]byte, partSize)...)
}

func pack(t *testing.T, b []byte, most int) []byte {
	t.Helper()
	var out bytes.Buffer
	p := newPacker(&out)
	for r := bytes.NewReader(b); r.Len() > 0; {
		if _, err := io.CopyN(p, r, int64(min(r.Len(), 1+rand.IntN(most)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestPacker: any reader of gzip reads what went in, as one member; and it is
// the same bytes however it was written, and by how many CPUs. A push goes on
// in the middle of them.
func TestPacker(t *testing.T) {
	all := stream(t)
	for _, in := range [][]byte{nil, {1}, all[:partSize], all[:partSize+1], all} {
		first := pack(t, in, 1<<20)
		z, err := gzip.NewReader(bytes.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		z.Multistream(false)
		if out, err := io.ReadAll(z); err != nil || !bytes.Equal(out, in) {
			t.Errorf("of %d bytes %d are read: %v", len(in), len(out), err)
		}
		for cpus := range 4 {
			before := runtime.GOMAXPROCS(cpus + 1)
			again := pack(t, in, 1<<(4+5*cpus))
			runtime.GOMAXPROCS(before)
			if !bytes.Equal(again, first) {
				t.Errorf("%d bytes become others on %d CPUs", len(in), cpus+1)
			}
		}
	}
	if packed := pack(t, all, 1<<20); len(packed) > len(all)*3/4 {
		t.Errorf("%d bytes become %d", len(all), len(packed))
	}
}

// full is a writer that has no room for more.
type full struct{ left int }

func (f *full) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

var errFull = errors.New("full")

// TestPackerFull: the error comes from wherever it arises, and stays.
func TestPackerFull(t *testing.T) {
	all := stream(t)
	for room := 0; room < len(all)/4; room += len(all) / 16 {
		p := newPacker(&full{room})
		_, written := p.Write(all)
		if err := p.Close(); !errors.Is(err, errFull) || written != nil && !errors.Is(written, errFull) {
			t.Errorf("with room for %d: %v, %v", room, written, err)
		}
	}
}
