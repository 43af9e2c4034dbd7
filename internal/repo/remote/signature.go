package remote

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"capstan/internal/repo"
	"capstan/internal/repo/cosign"
)

// Digest returns the digest of what n stands for at its registry itself: of an
// index, where it is one. What is not there gives an error that is
// repo.ErrNotFound.
func (c *Client) Digest(ctx context.Context, n repo.Name) (v1.Hash, error) {
	p, err := c.place(n.Registry, repositoryPath(n))
	if err != nil {
		return v1.Hash{}, err
	}
	ref := n.Tag
	if n.Digest != (v1.Hash{}) {
		ref = n.Digest.String()
	}
	img := &Image{Name: n, client: c, places: []place{p}}
	_, d, err := img.document(ctx, p, ref)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("looking up %s: %w", n, err)
	}
	return d.Digest, nil
}

// Signatures returns the signatures of the image by this digest that lie
// beside n: at its registry, and at the mirrors where n may come from.
func (c *Client) Signatures(ctx context.Context, n repo.Name, digest v1.Hash) ([]cosign.Signature, error) {
	places, err := c.places(n)
	if err != nil {
		return nil, err
	}
	var all []cosign.Signature
	var failed error
	for _, p := range places {
		found, err := c.signatures(ctx, p, n, digest)
		all = append(all, found...)
		if err != nil {
			failed = fmt.Errorf("looking for signatures of %s: %w", n, err)
		}
	}
	if len(all) > 0 || ctx.Err() == nil && failed == nil {
		return all, nil
	}
	return nil, failed
}

// signatures returns those that lie at p, where there may be none.
func (c *Client) signatures(ctx context.Context, p place, n repo.Name, digest v1.Hash) ([]cosign.Signature, error) {
	img := &Image{Name: n, client: c, places: []place{p}}
	data, d, err := img.document(ctx, p, cosign.Tag(digest))
	if errors.Is(err, repo.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if d.MediaType != types.OCIManifestSchema1 && d.MediaType != types.DockerManifestSchema2 {
		return nil, unknownKind(d.MediaType)
	}
	m, err := readManifest(data)
	if err != nil {
		return nil, err
	}
	return cosign.Read(m, func(d v1.Descriptor) ([]byte, error) {
		var b buffer
		err := img.Download(ctx, d, &b)
		return b.data, err
	})
}

// AddSignature puts one more signature beside the image by this digest, at the
// registry that n names.
func (c *Client) AddSignature(ctx context.Context, n repo.Name, digest v1.Hash, s cosign.Signature) error {
	p, err := c.place(n.Registry, repositoryPath(n))
	if err != nil {
		return err
	}
	before, err := c.signatures(ctx, p, n, digest)
	if err != nil {
		return fmt.Errorf("looking for signatures of %s: %w", n, err)
	}
	img, err := cosign.Image(append(before, s))
	if err != nil {
		return err
	}
	pusher, err := c.pusher(p)
	if err != nil {
		return err
	}
	if err := pusher.Push(ctx, p.repo.Tag(cosign.Tag(digest)), img); err != nil {
		return fmt.Errorf("signing %s: %w", n, explain(p, "", err))
	}
	return nil
}
