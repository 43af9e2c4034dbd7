package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"capstan/internal/repo"
)

// parallel is how many blobs are uploaded at once.
const parallel = 4

// Source is where Push takes an image from.
type Source interface {
	// Document returns a manifest or index, verified.
	Document(d v1.Descriptor) ([]byte, error)
	// Children returns what a manifest or index refers to.
	Children(d v1.Descriptor) ([]v1.Descriptor, error)
	// Blob opens a blob, which is verified while it is read.
	Blob(d v1.Descriptor) (io.ReadCloser, error)
}

// Progress is told how far pieces of work are. It is called by several
// goroutines at once; a piece is complete when done is total.
type Progress interface {
	Update(piece string, done, total int64)
}

// PushOptions are what Push may be told.
type PushOptions struct {
	// Mounts names, for a blob, a repository of the same registry that may
	// have it, so that the registry need not be sent it.
	Mounts   map[v1.Hash]repo.Name
	Progress Progress // may be nil
}

// Push sends the image or index d to the registry that n names, and gives it
// n's tag. Only what the registry lacks is sent, and what refers to something
// after what it refers to: the name changes when all is there.
func (c *Client) Push(ctx context.Context, n repo.Name, src Source, d v1.Descriptor, opts PushOptions) error {
	p, err := c.place(n.Registry, repositoryPath(n))
	if err != nil {
		return err
	}
	pusher, err := c.pusher(p)
	if err != nil {
		return fmt.Errorf("pushing %s: %w", n, err)
	}
	u := &upload{ctx: ctx, client: c, place: p, pusher: pusher, src: src, opts: opts}
	var ref name.Reference = p.repo.Digest(d.Digest.String())
	if n.Tag != "" {
		ref = p.repo.Tag(n.Tag)
	}
	if err := u.tree(ctx, d, ref, 0); err != nil {
		return fmt.Errorf("pushing %s: %w", n, err)
	}
	return nil
}

// pusher returns what uploads to p.
func (c *Client) pusher(p place) (*remote.Pusher, error) {
	b, err := c.base(p.host)
	if err != nil {
		return nil, err
	}
	return remote.NewPusher(
		remote.WithTransport(b), remote.WithAuthFromKeychain(c.opts.Keychain), remote.WithJobs(parallel),
		remote.WithRetryStatusCodes(), // b tries again
		remote.WithRetryBackoff(remote.Backoff{Duration: max(4*c.opts.Pause, time.Millisecond), Factor: 2, Jitter: 0.5, Steps: 4}),
		remote.WithRetryPredicate(uploadMayPass),
	)
}

// uploadMayPass reports whether an upload that failed is begun anew. Requests
// without a body were tried again below this.
func uploadMayPass(err error) bool {
	var tried *triedError
	if err == nil || errors.As(err, &tried) {
		return false
	}
	var status *transport.Error
	if errors.As(err, &status) {
		return passing(&http.Response{StatusCode: status.StatusCode}, nil) || status.StatusCode == http.StatusRequestedRangeNotSatisfiable
	}
	var source *sourceError
	return !errors.As(err, &source) && !permanent(err)
}

// sourceError is an error of reading what is to be sent.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// upload is one push.
type upload struct {
	ctx    context.Context
	client *Client
	place  place
	pusher *remote.Pusher
	src    Source
	opts   PushOptions
}

// tree sends what d refers to, and then d under ref.
func (u *upload) tree(ctx context.Context, d v1.Descriptor, ref name.Reference, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("its index holds indexes more than %d deep", maxNesting)
	}
	children, err := u.src.Children(d)
	if err != nil {
		return err
	}
	data, err := u.src.Document(d)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, child := range children {
		g.Go(func() error {
			if child.MediaType.IsImage() || child.MediaType.IsIndex() {
				return u.tree(gctx, child, u.place.repo.Digest(child.Digest.String()), depth+1)
			}
			return u.blob(gctx, child)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := u.pusher.Put(ctx, ref, &document{d.MediaType, data}); err != nil {
		return fmt.Errorf("sending manifest %s: %w", d.Digest, explain(u.place, "", err))
	}
	return nil
}

// blob sends one blob, unless the registry has it or can mount it.
func (u *upload) blob(ctx context.Context, d v1.Descriptor) error {
	if !d.MediaType.IsDistributable() {
		return &MediaTypeError{What: "layer " + d.Digest.String(), MediaType: d.MediaType, hint: "an image whose layers may all be kept in a registry"}
	}
	u.told(d, 0)
	layer := v1.Layer(&sentLayer{ctx: ctx, d: d, upload: u})
	if from, ok := u.opts.Mounts[d.Digest]; ok {
		p, err := u.client.place(from.Registry, repositoryPath(from))
		if err != nil {
			return err
		}
		layer = &remote.MountableLayer{Layer: layer, Reference: p.repo.Tag(repo.DefaultTag)}
	}
	if err := u.pusher.Upload(ctx, u.place.repo, layer); err != nil {
		var source *sourceError
		if errors.As(err, &source) {
			return source.err
		}
		return fmt.Errorf("sending blob %s: %w", d.Digest, explain(u.place, "", err))
	}
	u.told(d, d.Size)
	return nil
}

func (u *upload) told(d v1.Descriptor, done int64) {
	if u.opts.Progress != nil && (d.MediaType.IsLayer() || repo.IsDiskLayer(d)) {
		u.opts.Progress.Update("layer "+d.Digest.Hex[:12], done, d.Size)
	}
}

// document is a manifest or index to put.
type document struct {
	mediaType types.MediaType
	data      []byte
}

func (m *document) RawManifest() ([]byte, error)        { return m.data, nil }
func (m *document) MediaType() (types.MediaType, error) { return m.mediaType, nil }

// sentLayer is a blob of the source, as it is stored. Nobody asks for its
// content or digest before compression.
type sentLayer struct {
	ctx    context.Context
	d      v1.Descriptor
	upload *upload
}

func (l *sentLayer) Digest() (v1.Hash, error)             { return l.d.Digest, nil }
func (l *sentLayer) Size() (int64, error)                 { return l.d.Size, nil }
func (l *sentLayer) MediaType() (types.MediaType, error)  { return l.d.MediaType, nil }
func (l *sentLayer) DiffID() (v1.Hash, error)             { return v1.Hash{}, errors.ErrUnsupported }
func (l *sentLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
func (l *sentLayer) Compressed() (io.ReadCloser, error) {
	r, err := l.upload.src.Blob(l.d)
	if err != nil {
		return nil, &sourceError{err}
	}
	return &sentReader{ReadCloser: r, layer: l}, nil
}

// sentReader tells how much of a layer has been sent.
type sentReader struct {
	io.ReadCloser
	layer *sentLayer
	done  int64
}

func (r *sentReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.done += int64(n); n > 0 && r.done < r.layer.d.Size {
		r.layer.upload.told(r.layer.d, r.done)
	}
	if err != nil && err != io.EOF {
		err = &sourceError{err}
	}
	return n, err
}
