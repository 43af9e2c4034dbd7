// Package decompress reads what layers and archives are compressed with.
package decompress

import (
	"bufio"
	"bytes"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// First bytes: RFC 1952, section 2.3.1, and RFC 8878, section 3.1.1.
const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// maxWindow bounds the memory that zstd takes: what "zstd --ultra -22" needs.
const maxWindow = 128 << 20

// NewReader returns what r holds: decompressed if it begins as gzip or zstd
// does, else as it is. Media types and file names are not to be trusted in
// this. Closing does not close r.
func NewReader(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	start, err := in.Peek(len(zstdMagic))
	switch {
	case err != nil && err != io.EOF:
		return nil, err
	case bytes.HasPrefix(start, []byte(gzipMagic)):
		return gzip.NewReader(in)
	case bytes.HasPrefix(start, []byte(zstdMagic)):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}
