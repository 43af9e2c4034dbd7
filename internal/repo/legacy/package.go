package legacy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"capstan/internal/repo"
)

// Packages of OSv's, beside the images of a repository:
//
//	packages/NAME.yaml    describes it
//	packages/NAME.mpm
const packagesDir = "packages/"

// maxManifest bounds a description, in bytes.
const maxManifest = 1 << 20

// Packages returns the names of the packages in the repository, sorted. Not all
// of them need be ones that packages can have.
func (r *Remote) Packages(ctx context.Context) ([]string, error) {
	var names []string
	err := r.keys(ctx, func(key string) {
		if name, ok := strings.CutPrefix(key, packagesDir); ok {
			if name, ok := strings.CutSuffix(name, ".yaml"); ok && !strings.Contains(name, "/") {
				names = append(names, name)
			}
		}
	})
	slices.Sort(names)
	return slices.Compact(names), err
}

// Manifest returns the description of a package. One that is not there gives an
// error that is repo.ErrNotFound.
func (r *Remote) Manifest(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	resp, err := r.get(ctx, packagesDir+name+".yaml", nil)
	if errors.Is(err, repo.ErrNotFound) {
		return nil, r.noPackage(name)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err == nil && len(b) > maxManifest {
		err = fmt.Errorf("it has more than %d MiB", maxManifest>>20)
	}
	if err != nil {
		return nil, &Error{Where: r.String(), Reason: fmt.Sprintf("has a description of %s that cannot be read: %v", clip(name), err), Err: err, hint: "ask whoever keeps the repository"}
	}
	return b, nil
}

// Package opens a package's archive, of which size says how long it is, or -1.
// The caller reads and closes it.
func (r *Remote) Package(ctx context.Context, name string) (archive io.ReadCloser, size int64, err error) {
	ctx, stalled := stallable(ctx)
	var resp *http.Response
	if resp, err = r.get(ctx, packagesDir+name+".mpm", nil); err != nil {
		stalled.stop()
		if errors.Is(err, repo.ErrNotFound) {
			err = r.noPackage(name)
		}
		return nil, 0, err
	}
	return stalled.reader(resp.Body, r), resp.ContentLength, nil
}

func (r *Remote) noPackage(name string) error {
	return &Error{Where: r.String(), Reason: "has no package " + clip(name), absent: true, hint: "capstan package search -u " + r.String() + " lists what it has"}
}

// keys calls each for all keys in the repository.
func (r *Remote) keys(ctx context.Context, each func(key string)) error {
	var query url.Values
	var marker string
	for n := 0; ; n++ {
		page, err := r.page(ctx, query)
		if err != nil {
			return err
		}
		for _, c := range page.Contents {
			each(c.Key)
		}
		var more bool
		query, marker, more, err = page.next(marker)
		if err == nil && more && n == maxPages {
			err = fmt.Errorf("it has more than %d pages", maxPages)
		}
		if err != nil {
			return &Error{Where: r.String(), Reason: fmt.Sprintf("has a listing that cannot be read: %v", err), Err: err, hint: "ask whoever keeps the repository"}
		}
		if !more {
			return nil
		}
	}
}
