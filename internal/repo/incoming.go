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
	"path/filepath"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Incoming is an image on its way into the store. Its blobs arrive in a stage,
// where they can be read while they grow; nothing of it is part of the store
// before Put.
type Incoming struct {
	ctx   context.Context
	store *Store
	stage *stage

	mu    sync.Mutex
	blobs map[v1.Hash]*Blob
}

// Receive prepares for an image. The end of ctx ends the reading of blobs that
// have not arrived. The caller closes what is returned.
//
// It first removes what killed processes have left, which may be the gigabytes
// of another download.
func (s *Store) Receive(ctx context.Context) (*Incoming, error) {
	var st *stage
	err := s.locked(ctx, func() (err error) {
		if _, err = s.sweepTemp(&Report{}); err == nil {
			st, err = s.newStageLocked()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("receiving an image: %w", err)
	}
	return &Incoming{ctx: ctx, store: s, stage: st, blobs: map[v1.Hash]*Blob{}}, nil
}

// Close removes what arrived, unless Put has taken it.
func (in *Incoming) Close() { in.stage.close() }

// Blob returns the blob that d describes. If it is not whole, which it is
// where the store has it already or it was asked for before, somebody has to
// write it.
func (in *Incoming) Blob(d v1.Descriptor) (*Blob, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, fmt.Errorf("receiving a blob: it %w", err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if b := in.blobs[d.Digest]; b != nil {
		return b, nil
	}
	b := &Blob{ctx: in.ctx, store: in.store, desc: d, path: filepath.Join(in.stage.dir, "blob-"+d.Digest.Hex), sum: sha256.New()}
	b.changed.L = &b.mu
	if in.store.hasBlob(d.Digest, d.Size) {
		b.old, b.size, b.err = true, d.Size, io.EOF
		// A link of its own, because the store may collect the blob; where
		// there are no links, that ends what reads it.
		if os.Link(in.store.blobPath(d.Digest), b.path) != nil {
			b.path = in.store.blobPath(d.Digest)
		}
	} else {
		var err error
		if b.f, err = os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return nil, wrapWrite("writing", b.path, err)
		}
	}
	in.blobs[d.Digest] = b
	return b, nil
}

// Image returns the image of the given manifest and config, with the blobs
// that were asked for as its layers. Reading those waits for them to arrive.
func (in *Incoming) Image(mediaType types.MediaType, manifest, config []byte) (v1.Image, error) {
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, fmt.Errorf("its manifest %w", err)
	}
	var e Entry
	diffIDs, err := e.describe(v1.Descriptor{}, m, config)
	if err != nil {
		return nil, fmt.Errorf("its config %w", err)
	}
	img := &rawImage{mediaType: mediaType, rawManifest: manifest, rawConfig: config, manifest: m, diffIDs: diffIDs}
	img.layer = func(d v1.Descriptor) blobLayer { return &arrivingLayer{diskLayer{store: in.store, desc: d}, in} }
	return partial.CompressedToImage(img)
}

// Put stores img, which Image returned, under name: see Store.Put. The digest
// source is that of the index from which the registry gave the image, or zero.
// All blobs must have arrived.
func (in *Incoming) Put(ctx context.Context, name Name, img v1.Image, source v1.Hash) (Entry, error) {
	staged := map[v1.Hash]string{}
	in.mu.Lock()
	for digest, b := range in.blobs {
		if b.Whole() && b.path != in.store.blobPath(digest) {
			staged[digest] = b.path
		}
	}
	in.mu.Unlock()
	origin := Origin{Name: name, Digest: source, Pulled: time.Now().Truncate(time.Second)}
	if source == (v1.Hash{}) {
		var err error
		if origin.Digest, err = img.Digest(); err != nil {
			return Entry{}, fmt.Errorf("storing image %s: %w", name, err)
		}
	}
	return in.store.put(ctx, name, img, &origin, in.stage, staged)
}

// arrivingLayer is a layer of an Incoming: a blob of the stage, else one of
// the store.
type arrivingLayer struct {
	diskLayer
	in *Incoming
}

func (l *arrivingLayer) Compressed() (io.ReadCloser, error) {
	l.in.mu.Lock()
	b := l.in.blobs[l.desc.Digest]
	l.in.mu.Unlock()
	if b == nil {
		return l.diskLayer.Compressed()
	}
	return b.Open()
}

// Blob is a blob that arrives: one goroutine writes it, and any number read
// what there is of it.
type Blob struct {
	ctx   context.Context
	store *Store
	desc  v1.Descriptor
	path  string
	old   bool // the store had it
	f     *os.File
	sum   hash.Hash

	mu      sync.Mutex
	changed sync.Cond
	size    int64 // bytes that can be read
	err     error // io.EOF: it is whole and verified; else why there is no more
}

// Size returns how many bytes have arrived.
func (b *Blob) Size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size
}

// Whole reports whether all has arrived and is what the digest says.
func (b *Blob) Whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Is(b.err, io.EOF)
}

// Wait waits until nothing more arrives and returns why, or nil if the blob is
// whole.
func (b *Blob) Wait() error {
	defer context.AfterFunc(b.ctx, b.wake)()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil && b.ctx.Err() == nil {
		b.changed.Wait()
	}
	switch {
	case errors.Is(b.err, io.EOF):
		return nil
	case b.err != nil:
		return b.err
	}
	return context.Cause(b.ctx)
}

// wake lets all who wait look again.
func (b *Blob) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed.Broadcast()
}

// SizeError reports a blob that does not have the size that it should have.
type SizeError struct {
	Digest    v1.Hash
	Want, Got int64
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("blob %s should have %d bytes, and has %s", e.Digest, e.Want, atLeast(e.Got, e.Want))
}

// DigestError reports a blob that is not what its digest says.
type DigestError struct{ Want, Got v1.Hash }

func (e *DigestError) Error() string {
	return fmt.Sprintf("blob %s has content of the digest %s", e.Want, e.Got)
}

// Write adds to the blob. It takes no byte beyond the blob's size.
func (b *Blob) Write(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	if b.size+int64(len(p)) > b.desc.Size { // only this goroutine changes it
		return 0, &SizeError{Digest: b.desc.Digest, Want: b.desc.Size, Got: b.size + int64(len(p))}
	}
	n, err := b.f.Write(p)
	b.sum.Write(p[:n])
	b.mu.Lock()
	b.size += int64(n)
	b.mu.Unlock()
	b.changed.Broadcast()
	return n, wrapWrite("writing", b.path, err)
}

// Finish ends writing, with err where it failed: that is what readers then
// get. Else it verifies what arrived, and returns once that is on disk.
func (b *Blob) Finish(err error) error {
	if err == nil {
		err = b.verify()
	}
	b.mu.Lock()
	if b.err = err; err == nil {
		b.err = io.EOF
	}
	b.mu.Unlock()
	b.changed.Broadcast()
	if err != nil {
		_ = b.f.Close()
		return err
	}
	return finish(b.f)
}

func (b *Blob) verify() error {
	if b.size != b.desc.Size {
		return &SizeError{Digest: b.desc.Digest, Want: b.desc.Size, Got: b.size}
	}
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(b.sum.Sum(nil))}
	if got != b.desc.Digest {
		return &DigestError{Want: b.desc.Digest, Got: got}
	}
	return nil
}

// Open returns a reader from the blob's beginning. It waits for what has not
// arrived, and says io.EOF only of a blob that was verified.
func (b *Blob) Open() (io.ReadCloser, error) {
	if b.old {
		r, err := b.store.openBlobAt(b.path, b.desc.Digest, b.desc.Size)
		if err == nil {
			return &explainReader{blobReader: r, store: b.store}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, b.store.explain(b.desc.Digest.String(), err)
		}
		return b.stored()
	}
	f, err := os.Open(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return b.stored()
	}
	if err != nil {
		return nil, fmt.Errorf("reading blob: %w", err)
	}
	r := &arrivingReader{b: b, f: f}
	r.stop = context.AfterFunc(b.ctx, b.wake)
	return r, nil
}

// stored opens a blob that Put has taken.
func (b *Blob) stored() (io.ReadCloser, error) {
	return (&diskLayer{store: b.store, desc: b.desc}).Compressed()
}

// arrivingReader reads a blob that is being written.
type arrivingReader struct {
	b      *Blob
	f      *os.File
	off    int64
	closed bool // under the blob's mutex
	stop   func() bool
}

func (r *arrivingReader) Read(p []byte) (int, error) {
	b := r.b
	b.mu.Lock()
	for r.off == b.size && b.err == nil && b.ctx.Err() == nil && !r.closed {
		b.changed.Wait()
	}
	size, err := b.size, b.err
	if r.closed {
		err = fs.ErrClosed
	}
	b.mu.Unlock()
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return 0, err
	case r.off < size:
		n, err := r.f.Read(p[:min(int64(len(p)), size-r.off)])
		r.off += int64(n)
		return n, err
	case err != nil:
		return 0, io.EOF
	}
	return 0, context.Cause(b.ctx)
}

// Close ends reading, also of another goroutine that waits in Read.
func (r *arrivingReader) Close() error {
	r.b.mu.Lock()
	r.closed = true
	r.b.mu.Unlock()
	r.b.changed.Broadcast()
	r.stop()
	return r.f.Close()
}
