package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"capstan/internal/repo"
)

// Bounds on a catalog.
const (
	maxPage    = 4 << 20 // bytes
	maxCatalog = 100_000 // names
)

// ErrNoCatalog is wrapped by the error of Catalog for a registry that does not
// list its repositories, as Docker Hub and many others do not.
var ErrNoCatalog = errors.New("has no catalog")

// Catalog calls found with the names of the repositories at host that take
// part in the registry's catalog, page by page: docker's registry API v2,
// "Listing Repositories". It returns false where there are more than it asks
// for, and at the end of ctx what was found up to then stays found.
func (c *Client) Catalog(ctx context.Context, host string, found func(repo.Name)) (whole bool, err error) {
	reg, err := c.registry(host)
	if err != nil {
		return false, err
	}
	session, err := c.catalogSession(ctx, host, reg)
	if err != nil {
		return false, noCatalog(host, err)
	}
	// How many names make a page is left to the registry: some refuse to be
	// asked for more than they give.
	next := &url.URL{Scheme: reg.Scheme(), Host: reg.RegistryStr(), Path: "/v2/_catalog"}
	seen := map[string]bool{}
	for next != nil {
		if len(seen) >= maxCatalog {
			return false, nil
		}
		before := len(seen)
		names, after, err := catalogPage(ctx, session, next)
		if err != nil {
			return false, noCatalog(host, err)
		}
		for _, n := range names {
			full, err := repo.ParseName(host + "/" + n)
			if err == nil && !seen[n] {
				seen[n] = true
				found(full)
			}
		}
		if after != nil && len(seen) == before {
			return false, nil // it sends the same again and again
		}
		next = after
	}
	return true, nil
}

func (c *Client) catalogSession(ctx context.Context, host string, reg name.Registry) (*http.Client, error) {
	b, err := c.base(host)
	if err != nil {
		return nil, err
	}
	auth, err := authn.Resolve(ctx, c.opts.Keychain, reg)
	if err != nil {
		return nil, fmt.Errorf("finding the credentials for %s: %w", host, err)
	}
	t, err := transport.NewWithContext(ctx, reg, auth, b, []string{reg.Scope("")})
	return &http.Client{Transport: t, CheckRedirect: checkRedirect}, err
}

// catalogPage asks for one page, and returns where the next one is, if there
// is one: on the same host, RFC 8288 says how.
func catalogPage(ctx context.Context, session *http.Client, at *url.URL) (names []string, next *url.URL, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := session.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, nil, err
	}
	var page struct {
		Repositories []string `json:"repositories"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPage)).Decode(&page); err != nil {
		return nil, nil, fmt.Errorf("reading the catalog: %w", err)
	}
	link, _, _ := strings.Cut(resp.Header.Get("Link"), ">")
	link, ok := strings.CutPrefix(link, "<")
	if !ok {
		return page.Repositories, nil, nil
	}
	if next, err = at.Parse(link); err != nil || next.Host != at.Host {
		return nil, nil, fmt.Errorf("reading the catalog: the next page is said to be at %q", oneLine(link))
	}
	next.Scheme = at.Scheme
	return page.Repositories, next, nil
}

// noCatalog tells registries that do not let the catalog be read from those
// that cannot be reached.
func noCatalog(host string, err error) error {
	var status *transport.Error
	if errors.As(err, &status) {
		switch status.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return &Error{Host: host, Reason: ErrNoCatalog.Error(), Status: status.StatusCode, Err: ErrNoCatalog}
		}
	}
	return explain(place{host: host}, "catalog", err)
}
