package repo

import (
	"bufio"
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
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// LayerWriter turns a tar stream into an uncompressed layer, in one pass. It
// is for one goroutine.
type LayerWriter struct {
	ctx   context.Context
	store *Store
	stage *stage
	f     *os.File
	sum   hash.Hash
	buf   *bufio.Writer
	size  int64
	err   error // of an earlier Write
}

// LayerWriter returns a writer for a new layer. The caller closes it once the
// layer has been Put, or is not wanted.
func (s *Store) LayerWriter(ctx context.Context) (*LayerWriter, error) {
	st, err := s.newStage(ctx)
	if err != nil {
		return nil, fmt.Errorf("writing a layer: %w", err)
	}
	f, err := os.CreateTemp(st.dir, "blob-")
	if err != nil {
		st.close()
		return nil, wrapWrite("writing a layer to", st.dir, err)
	}
	w := &LayerWriter{ctx: ctx, store: s, stage: st, f: f, sum: sha256.New()}
	w.buf = bufio.NewWriterSize(io.MultiWriter(f, w.sum), 256<<10)
	return w, nil
}

// Write adds tar data to the layer. It fails once the context has ended.
func (w *LayerWriter) Write(p []byte) (n int, err error) {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err = w.buf.Write(p)
	w.size += int64(n)
	if err != nil {
		w.err = wrapWrite("writing", w.f.Name(), err)
	}
	return n, w.err
}

// Commit ends the layer and returns it. It is readable until Close, and
// beyond if an image that has it was Put. Its content is on disk, but only
// Put makes it part of the store.
func (w *LayerWriter) Commit() (v1.Layer, error) {
	if w.err != nil {
		return nil, w.err
	}
	if err := w.buf.Flush(); err != nil {
		w.err = wrapWrite("writing", w.f.Name(), err)
		return nil, w.err
	}
	if w.err = finish(w.f); w.err != nil {
		return nil, w.err
	}
	w.err = errors.New("the layer is complete")
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(w.sum.Sum(nil))}
	return &stagedLayer{
		diskLayer: diskLayer{store: w.store, desc: v1.Descriptor{
			MediaType: types.OCIUncompressedLayer, Digest: digest, Size: w.size}},
		path: w.f.Name(),
	}, nil
}

// Close removes what was written, unless Put has taken it. It may be called
// at any time, and again.
func (w *LayerWriter) Close() error {
	if w.stage == nil {
		return nil
	}
	if w.err == nil {
		w.err = fs.ErrClosed
	}
	_ = w.f.Close()
	w.stage.close()
	w.stage = nil
	return nil
}

// stagedLayer is a layer of a LayerWriter: at path until Put moves it to
// where a diskLayer is.
type stagedLayer struct {
	diskLayer
	path string
}

func (l *stagedLayer) staged(root string) (string, bool) {
	_, err := os.Stat(l.path)
	return l.path, err == nil && l.store.root == root
}

func (l *stagedLayer) DiffID() (v1.Hash, error) { return l.desc.Digest, nil }

func (l *stagedLayer) Compressed() (io.ReadCloser, error) {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l.diskLayer.Compressed()
	}
	if err != nil {
		return nil, fmt.Errorf("reading layer: %w", err)
	}
	return f, nil
}

func (l *stagedLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
