package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/image/decompress"
)

// Bounds on what a layer's few bytes may become.
const (
	maxLayer    = 512 << 30 // bytes of it, uncompressed
	maxTrailing = 64 << 20  // bytes behind the archive's end
)

// DiffIDError reports a layer whose content is not what the config says.
type DiffIDError struct {
	Got, Want v1.Hash
}

func (e *DiffIDError) Error() string {
	return fmt.Sprintf("its content has digest %s, and the image's config says %s", e.Got, e.Want)
}

// Hint says who can mend that.
func (e *DiffIDError) Hint() string {
	return "another tag of the image: whoever published this one has to make it anew"
}

// layerReader reads a layer's tar. Another goroutine fetches and decompresses
// what comes next meanwhile.
type layerReader struct {
	ctx   context.Context
	ahead *ahead
	rest  []byte // of what was fetched last
	sum   hash.Hash
	size  int64
}

// openLayer begins to read a layer. What fails in that, reading says.
func openLayer(ctx context.Context, layer v1.Layer) *layerReader {
	open := func() (io.ReadCloser, error) { return uncompressed(layer) }
	return &layerReader{ctx: ctx, ahead: readAhead(open), sum: sha256.New()}
}

// uncompressed is for the layer's own Uncompressed, which is slower, and does
// not bound the memory that decompressing takes.
func uncompressed(layer v1.Layer) (io.ReadCloser, error) {
	blob, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	plain, err := decompress.NewReader(blob)
	if err != nil {
		if cerr := blob.Close(); cerr != nil {
			return nil, cerr // the cause
		}
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	return &plainBlob{plain, blob}, nil
}

// plainBlob is a blob that is decompressed.
type plainBlob struct {
	io.ReadCloser
	blob io.Closer
}

func (p *plainBlob) Close() error {
	_ = p.ReadCloser.Close() // repeats the error that reading gave
	return p.blob.Close()
}

func (r *layerReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		var err error
		if r.rest, err = r.ahead.next(r.ctx); err != nil {
			return 0, err
		}
		if r.size += int64(len(r.rest)); r.size > maxLayer {
			return 0, fmt.Errorf("more than %d bytes in a layer", int64(maxLayer))
		}
		r.sum.Write(r.rest)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// verify reads what follows the archive and compares the digest.
func (r *layerReader) verify(want v1.Hash) error {
	n, err := io.CopyN(io.Discard, r, maxTrailing+1)
	switch {
	case err == nil:
		return fmt.Errorf("more than %d bytes behind the archive's end", n-1)
	case err != io.EOF:
		return err
	}
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(r.sum.Sum(nil))}
	if got != want {
		return &DiffIDError{Got: got, Want: want}
	}
	return nil
}

// Close ends reading. Its error tells of a blob that is not what its digest
// says, where the store can tell.
func (r *layerReader) Close() error { return r.ahead.close() }

// contextReader ends reading when the context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
