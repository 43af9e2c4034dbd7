package image

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/repo"
	"capstan/internal/repo/remote"
)

// PullOptions say what to pull.
type PullOptions struct {
	Platform v1.Platform // the zero value is that of this machine's guests
	Progress Progress    // may be nil
	// Verify decides whether an image is trusted, by the digest of what its
	// name stands for. It is asked before any layer is downloaded. May be nil.
	Verify func(ctx context.Context, name repo.Name, digest v1.Hash) error
}

// parallel is how many layers are downloaded at once.
const parallel = 4

// HostPlatform is what a machine of this host's architecture runs.
func HostPlatform() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// Pull brings the image that name, with a registry, stands for into the store,
// with its root. Layers are flattened while they arrive, several at once;
// those that the store has are not downloaded. Image and root become visible
// when every layer was verified, or not at all.
func Pull(ctx context.Context, store *repo.Store, client *remote.Client, name repo.Name, opts PullOptions) (repo.Entry, error) {
	if opts.Platform.OS == "" {
		opts.Platform = HostPlatform()
	}
	found, err := client.Image(ctx, name, opts.Platform)
	if err != nil {
		return repo.Entry{}, err
	}
	if opts.Verify != nil {
		if err := opts.Verify(ctx, name, found.Top()); err != nil {
			return repo.Entry{}, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in, err := store.Receive(ctx)
	if err != nil {
		return repo.Entry{}, err
	}
	defer in.Close()
	p := &pull{store: store, found: found, in: in, progress: opts.Progress, cancel: cancel}
	defer p.downloads.Wait()
	entry, err := p.run(ctx)
	if err != nil {
		cancel(err)
		return repo.Entry{}, fmt.Errorf("pulling %s: %w", name, context.Cause(ctx))
	}
	return entry, nil
}

// pull is one image on its way. What fails first cancels the rest with its
// error as the cause.
type pull struct {
	store    *repo.Store
	found    *remote.Image
	in       *repo.Incoming
	progress Progress
	cancel   context.CancelCauseFunc

	blobs     []*repo.Blob // in the order of flattening
	downloads sync.WaitGroup
	entry     repo.Entry
}

func (p *pull) run(ctx context.Context) (repo.Entry, error) {
	if err := p.download(ctx); err != nil {
		return repo.Entry{}, err
	}
	img, err := p.in.Image(p.found.Descriptor.MediaType, p.found.Manifest, p.found.Config)
	if err != nil {
		return repo.Entry{}, err
	}
	if p.found.Disk { // there is nothing to flatten
		err := p.put(ctx, img)
		return p.entry, err
	}
	err = p.store.CacheRoot(ctx, p.found.Descriptor.Digest, func(ctx context.Context, f *os.File) error {
		if err := Flatten(ctx, Watched(img, p.progress), f); err != nil {
			return p.blame(err)
		}
		return p.put(ctx, img)
	})
	if err == nil && p.entry.Name.IsZero() { // the root was there already
		err = p.put(ctx, img)
	}
	return p.entry, err
}

// blame returns why a layer could not be flattened: err, or that it turns out
// not to be what its digest says.
func (p *pull) blame(err error) error {
	for _, b := range p.blobs {
		if !b.Whole() {
			if berr := b.Wait(); berr != nil {
				return berr
			}
			break
		}
	}
	return err
}

// put waits for the layers and makes the image visible.
func (p *pull) put(ctx context.Context, img v1.Image) (err error) {
	p.downloads.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.entry, err = p.in.Put(ctx, p.found.Name, img, p.found.Index)
	return err
}

// download starts the downloads of the layers that the store does not have, in
// the order in which they are flattened.
func (p *pull) download(ctx context.Context) error {
	jobs := make(chan *arriving, len(p.found.Layers))
	for _, d := range p.found.Layers {
		blob, err := p.in.Blob(d)
		if err != nil {
			return err
		}
		p.blobs = append(p.blobs, blob)
		job := &arriving{blob, p, d}
		if blob.Whole() {
			job.told()
			continue
		}
		jobs <- job
	}
	close(jobs)
	for range parallel {
		p.downloads.Go(func() {
			for job := range jobs {
				job.told()
				if err := job.Finish(p.found.Download(ctx, job.d, job)); err != nil {
					p.cancel(err)
					return
				}
			}
		})
	}
	return nil
}

// arriving is a layer's blob whose growth is told.
type arriving struct {
	*repo.Blob
	pull *pull
	d    v1.Descriptor
}

func (a *arriving) Write(b []byte) (int, error) {
	n, err := a.Blob.Write(b)
	a.told()
	return n, err
}

func (a *arriving) told() {
	if a.pull.progress != nil {
		a.pull.progress.Update("layer "+a.d.Digest.Hex[:12], a.Size(), a.d.Size)
	}
}
