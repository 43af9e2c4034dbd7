package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// stageBlob copies r into the stage and returns the path, once the content is
// on disk and is what h and size say.
func (st *stage) stageBlob(ctx context.Context, r io.Reader, h v1.Hash, size int64) (path string, err error) {
	f, err := os.CreateTemp(st.dir, "blob-")
	if err != nil {
		return "", wrapWrite("writing", st.dir, err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	sum := sha256.New()
	in := &ctxReader{ctx: ctx, r: io.LimitReader(r, size+1)}
	out := &errWriter{w: f}
	n, err := io.CopyBuffer(io.MultiWriter(out, sum), in, make([]byte, 256<<10))
	switch {
	case out.err != nil:
		return "", wrapWrite("writing", f.Name(), out.err)
	case err != nil:
		return "", fmt.Errorf("reading blob %s: %w", h, err)
	case n != size:
		return "", fmt.Errorf("reading blob %s: it should have %d bytes, and has %s", h, size, atLeast(n, size))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != h.Hex {
		return "", fmt.Errorf("reading blob %s: its content has digest sha256:%s", h, got)
	}
	if err := finish(f); err != nil {
		return "", err
	}
	return f.Name(), nil
}

func atLeast(n, size int64) string {
	if n > size {
		return "more"
	}
	return fmt.Sprint(n)
}

// finish brings f's content to the disk and closes it.
func finish(f *os.File) error {
	if err := f.Sync(); err != nil {
		return wrapWrite("writing", f.Name(), err)
	}
	if err := f.Close(); err != nil {
		return wrapWrite("writing", f.Name(), err)
	}
	return nil
}

// errWriter keeps the error of its writer, to tell it from a reader's.
type errWriter struct {
	w   io.Writer
	err error
}

func (e *errWriter) Write(p []byte) (n int, err error) {
	n, err = e.w.Write(p)
	if err != nil {
		e.err = err
	}
	return n, err
}

// ctxReader ends a copy when ctx ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// readDocument returns a small blob, verified.
func (s *Store) readDocument(d v1.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, &CorruptError{Digest: d.Digest, Path: s.blobPath(d.Digest),
			Reason: fmt.Sprintf("%d bytes are too many for a manifest or config", d.Size)}
	}
	r, err := s.openBlob(d.Digest, d.Size)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	data := make([]byte, d.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	if _, err := r.Read(nil); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, nil
}

// drainOnClose is how much of a blob Close reads to be able to verify it.
// Readers of tar stop at the end of the archive, before the blob's padding.
const drainOnClose = 1 << 20

// blobReader reads a blob and compares it with its digest: the read that
// would return io.EOF returns a *CorruptError instead if they differ.
type blobReader struct {
	f    *os.File
	path string // in the store, for errors
	want v1.Hash
	sum  hash.Hash
	left int64
	err  error
}

// missingError reports a blob that is not there.
type missingError struct {
	digest v1.Hash
	path   string
}

func (e *missingError) Error() string        { return "store file " + e.path + " is missing" }
func (e *missingError) Is(target error) bool { return target == fs.ErrNotExist }

// openBlob opens a blob of the given size for reading. A blob that is absent
// gives a *missingError; explain says what that means.
func (s *Store) openBlob(h v1.Hash, size int64) (*blobReader, error) {
	return s.openBlobAt(s.blobPath(h), h, size)
}

// openBlobAt is openBlob for another link to the blob.
func (s *Store) openBlobAt(path string, h v1.Hash, size int64) (*blobReader, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missingError{digest: h, path: s.blobPath(h)}
	}
	if err != nil {
		return nil, fmt.Errorf("reading blob: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("reading blob: %w", err)
	}
	if fi.Size() != size || !fi.Mode().IsRegular() {
		_ = f.Close()
		return nil, &CorruptError{Digest: h, Path: s.blobPath(h),
			Reason: fmt.Sprintf("it should have %d bytes, and has %d", size, fi.Size())}
	}
	return &blobReader{f: f, path: s.blobPath(h), want: h, sum: sha256.New(), left: size}, nil
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left == 0 {
		b.verify()
		return 0, b.err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.f.Read(p)
	b.sum.Write(p[:n])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		b.verify()
	case errors.Is(err, io.EOF):
		b.err = b.corrupt("it ends too early")
	case err != nil:
		b.err = fmt.Errorf("reading blob: %w", err)
	}
	return n, b.err
}

func (b *blobReader) verify() {
	b.err = io.EOF
	if got := hex.EncodeToString(b.sum.Sum(nil)); got != b.want.Hex {
		b.err = b.corrupt("its content has digest sha256:" + got)
	}
}

func (b *blobReader) corrupt(reason string) error {
	return &CorruptError{Digest: b.want, Path: b.path, Reason: reason}
}

// Close closes the blob. Where no more than a tar's padding is left to read,
// it reads that, so that its error tells whether the blob was what it should
// be even to a reader that stopped at the end of the archive.
func (b *blobReader) Close() error {
	if errors.Is(b.err, fs.ErrClosed) {
		return nil
	}
	if b.err == nil && b.left <= drainOnClose {
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{b})
	}
	err := b.err
	if cerr := b.f.Close(); err == nil || errors.Is(err, io.EOF) {
		err = cerr
	}
	b.err = fs.ErrClosed
	return err
}
