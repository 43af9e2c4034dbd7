package disk_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"capstan/internal/image/disk"
)

// counting counts the bytes that are read.
type counting struct {
	r    io.ReaderAt
	read int64
}

func (c *counting) ReadAt(p []byte, at int64) (int, error) {
	c.read += int64(len(p))
	return c.r.ReadAt(p, at)
}

// TestUnpackOnce: a compressed block that is read in pieces is unpacked once.
func TestUnpackOnce(t *testing.T) {
	raw := make([]byte, 4<<20)
	for at := 0; at < len(raw); at += 128 { // half of it is random
		rand.NewChaCha8([32]byte{byte(at), byte(at >> 8), byte(at >> 16)}).Read(raw[at : at+64])
	}
	b, err := os.ReadFile(convert(t, raw, "-c", "-O", "qcow2", "-o", "cluster_size=2M"))
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{r: bytes.NewReader(b)}
	d, err := disk.Open(c, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	buf := make([]byte, 64<<10)
	if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{io.NewSectionReader(d, 0, d.Size)}, buf); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), raw) {
		t.Error("it does not read as what was written")
	}
	if c.read > 2*int64(len(b)) {
		t.Errorf("%d bytes were read of a file of %d", c.read, len(b))
	}
}
