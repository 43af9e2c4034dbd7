package remote

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"capstan/internal/repo"
)

// Options are fixed for a Client. The zero value asks registries anonymously.
type Options struct {
	Registries repo.Registries // how registries are reached
	Keychain   authn.Keychain  // nil: no credentials
	UserAgent  string

	// Pause is how long a request waits before it is tried again, at first;
	// each time it is twice as long. Default 250 ms.
	Pause time.Duration
	// Stall is how long nothing may arrive before a connection is given up.
	// Default 30 s.
	Stall time.Duration
}

// Client talks to registries. It keeps connections and tokens, and may be used
// by many goroutines.
type Client struct {
	opts Options

	mu       sync.Mutex
	bases    map[string]*base        // by host
	sessions map[string]*http.Client // by host, repository and action
}

// New returns a client.
func New(opts Options) *Client {
	if opts.Keychain == nil {
		opts.Keychain = authn.NewMultiKeychain()
	}
	if opts.Pause <= 0 {
		opts.Pause = 250 * time.Millisecond
	}
	if opts.Stall <= 0 {
		opts.Stall = 30 * time.Second
	}
	return &Client{opts: opts, bases: map[string]*base{}, sessions: map[string]*http.Client{}}
}

// place is a repository at a host: the one that a name means, or a mirror's.
type place struct {
	host string // as names have it
	repo name.Repository
}

func (p place) String() string { return p.host }

// url returns the address of something in the repository.
func (p place) url(kind, id string) string {
	return fmt.Sprintf("%s://%s/v2/%s/%s/%s", p.repo.Scheme(), p.repo.RegistryStr(), p.repo.RepositoryStr(), kind, id)
}

// place returns the repository of the given path at the registry at host.
func (c *Client) place(host, path string) (place, error) {
	var opts []name.Option
	if c.opts.Registries.Get(host).Insecure {
		opts = append(opts, name.Insecure)
	}
	r, err := name.NewRepository(host+"/"+path, opts...)
	if err != nil {
		return place{}, fmt.Errorf("naming %s at %s: %w", path, host, err)
	}
	return place{host: host, repo: r}, nil
}

// places returns where n is looked for: at its registry's mirrors, in order,
// and then at the registry.
func (c *Client) places(n repo.Name) ([]place, error) {
	path := repositoryPath(n)
	var list []place
	for _, mirror := range c.opts.Registries.Get(n.Registry).Mirrors {
		host, prefix, _ := strings.Cut(mirror, "/")
		if prefix != "" {
			prefix += "/"
		}
		p, err := c.place(host, prefix+path)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	p, err := c.place(n.Registry, path)
	return append(list, p), err
}

// repositoryPath returns n without its registry, tag and digest.
func repositoryPath(n repo.Name) string {
	return strings.TrimPrefix(n.Repository(), n.Registry+"/")
}

// session returns an HTTP client that is logged in at p for an action: one of
// transport's scopes.
func (c *Client) session(ctx context.Context, p place, action string) (*http.Client, error) {
	key := p.host + " " + p.repo.Scope(action)
	c.mu.Lock()
	session := c.sessions[key]
	c.mu.Unlock()
	if session != nil {
		return session, nil
	}
	b, err := c.base(p.host)
	if err != nil {
		return nil, err
	}
	auth, err := authn.Resolve(ctx, c.opts.Keychain, p.repo)
	if err != nil {
		return nil, fmt.Errorf("finding the credentials for %s: %w", p.host, err)
	}
	t, err := transport.NewWithContext(ctx, p.repo.Registry, auth, b, []string{p.repo.Scope(action)})
	if err != nil {
		return nil, explain(p, "", err)
	}
	session = &http.Client{Transport: t, CheckRedirect: checkRedirect}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[key] = session
	return session, nil
}

// Transport returns what requests to the registry at host go through: it tries
// again, trusts the registry's CA and refuses plain HTTP where it must. It
// adds no credentials.
func (c *Client) Transport(host string) (http.RoundTripper, error) { return c.base(host) }

func (c *Client) base(host string) (*base, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.bases[host]; b != nil {
		return b, nil
	}
	b, err := newBase(c.opts, c.opts.Registries.Get(host))
	if err == nil {
		c.bases[host] = b
	}
	return b, err
}
