package legacy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/repo"
)

const (
	// askTime bounds a small answer; stallTime is how long nothing may come of
	// a large one.
	askTime   = 30 * time.Second
	stallTime = 30 * time.Second
)

// Remote is a repository in an S3 bucket or a web directory, which answers
// anonymously.
type Remote struct {
	base     *url.URL
	insecure bool
	client   *http.Client
}

// Error is what went wrong with a repository, in a sentence.
type Error struct {
	Where  string
	Reason string // completes "old repository WHERE …"
	Err    error
	hint   string
	absent bool
}

func (e *Error) Error() string { return "old repository " + e.Where + " " + e.Reason }

// Unwrap returns what lies below.
func (e *Error) Unwrap() error { return e.Err }

// Hint is the way out.
func (e *Error) Hint() string {
	if e.hint == "" {
		return "curl -I " + e.Where + " tells whether it can be reached"
	}
	return e.hint
}

// Is makes errors.Is(err, repo.ErrNotFound) true of what is not there.
func (e *Error) Is(target error) bool { return target == repo.ErrNotFound && e.absent }

// Open returns the repository at a URL. Without encryption anybody on the way
// can change what comes from it; so plain HTTP is for this machine, and for
// what the configuration says it of, which is insecure.
func Open(address string, insecure func(host string) bool) (*Remote, error) {
	const example = "a URL such as https://bucket.s3.amazonaws.com/"
	u, err := url.Parse(address)
	if err != nil { // which repeats the URL, a password in it included
		return nil, &Error{Where: "URL", Reason: "cannot be read", hint: example}
	}
	wrong := func(reason, hint string) (*Remote, error) {
		return nil, &Error{Where: fmt.Sprintf("%.200s", u.Redacted()), Reason: reason, hint: hint}
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return wrong("is no URL of one", example)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return wrong("has more in its URL than a host and a path", example)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	r := &Remote{base: u, insecure: insecure != nil && insecure(u.Host)}
	if !r.allowed(u) {
		return wrong("is not encrypted: anybody on the way could change what comes from it",
			"https:// in its URL; or, if you trust the way, an entry with host: "+u.Host+" and insecure: true under registries: in config.yaml")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true // what is packed stays so
	transport.ResponseHeaderTimeout = askTime
	r.client = &http.Client{Transport: transport, CheckRedirect: r.redirect}
	return r, nil
}

// allowed reports whether a URL may be asked.
func (r *Remote) allowed(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	if r.insecure && u.Host == r.base.Host {
		return u.Scheme == "http"
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	return u.Scheme == "http" && (host == "localhost" || err == nil && ip.IsLoopback())
}

func (r *Remote) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("it redirects without end")
	}
	if !r.allowed(req.URL) {
		return errors.New("it redirects to where nothing is encrypted")
	}
	return nil
}

// String is where the repository is.
func (r *Remote) String() string { return r.base.String() }

// get asks for a key; where answers with another status than 200 are errors.
// The caller closes the body.
func (r *Remote) get(ctx context.Context, key string, query url.Values) (*http.Response, error) {
	u := *r.base
	if key != "" {
		u.Path = path.Join(u.Path, key)
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking the old repository: %w", err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, context.Cause(ctx)
		}
		return nil, &Error{Where: r.String(), Reason: fmt.Sprintf("cannot be reached: %v", err), Err: err}
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		// A bucket that may not be listed refuses what it does not have.
		absent := resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusForbidden
		return nil, &Error{Where: r.String(), Reason: "answers " + resp.Status + " to " + clip(key), absent: absent}
	}
	return resp, nil
}

// clip shortens what an error repeats.
func clip(key string) string {
	if key == "" {
		return "a request for its listing"
	}
	if len(key) > 200 {
		key = key[:200] + "…"
	}
	return strings.ToValidUTF8(key, "?")
}

// Found is an image that a repository has, and its disk, which the caller
// reads and closes.
type Found struct {
	Index Index
	Key   string // of the disk
	Size  int64  // as it is sent; -1: not told
	Body  io.ReadCloser
}

// Has reports whether n is of the form that images of a repository have:
// namespace/name and no tag.
func Has(n repo.Name) bool {
	return n.Registry == "" && n.Digest == (v1.Hash{}) && n.Tag == repo.DefaultTag && n.Namespace != "" && !strings.Contains(n.Namespace, "/")
}

// Image returns an image of the repository. One that is not there gives an
// error that is repo.ErrNotFound.
func (r *Remote) Image(ctx context.Context, n repo.Name) (*Found, error) {
	if !Has(n) {
		return nil, &repo.NameError{Name: n.String(), Reason: "old repositories have images of the form namespace/name, without a tag"}
	}
	dir := n.Namespace + "/" + n.Name + "/"
	index, err := r.index(ctx, dir)
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return nil, err
	}
	for _, ending := range endings {
		key := dir + n.Name + ending + ".gz"
		ctx, stalled := stallable(ctx)
		resp, err := r.get(ctx, key, nil)
		if errors.Is(err, repo.ErrNotFound) {
			stalled.stop()
			continue
		}
		if err != nil {
			stalled.stop()
			return nil, err
		}
		if index.Created.IsZero() {
			index.Created, _ = http.ParseTime(resp.Header.Get("Last-Modified")) // or zero
		}
		return &Found{Index: index, Key: key, Size: resp.ContentLength, Body: stalled.reader(resp.Body, r)}, nil
	}
	return nil, &Error{Where: r.String(), Reason: fmt.Sprintf("has no image %s for QEMU, VirtualBox or VMware", dir[:len(dir)-1]), absent: true, hint: "capstan search -u " + r.String() + " lists what it has"}
}

// index reads an image's index.yaml.
func (r *Remote) index(ctx context.Context, dir string) (Index, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	resp, err := r.get(ctx, dir+IndexFile, nil)
	if err != nil {
		return Index{}, err
	}
	defer resp.Body.Close()
	index, err := readIndex(resp.Body)
	if err != nil {
		return Index{}, &Error{Where: r.String(), Reason: fmt.Sprintf("has a damaged %s%s: %v", dir, IndexFile, err), Err: err, hint: "ask whoever keeps the repository"}
	}
	return index, nil
}

// stall ends a request of which nothing has come for too long.
type stall struct {
	timer *time.Timer
	stop  func()
}

var errStalled = errors.New("nothing has come for " + stallTime.String())

func stallable(ctx context.Context) (context.Context, *stall) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stall{timer: time.AfterFunc(stallTime, func() { cancel(errStalled) })}
	s.stop = func() {
		s.timer.Stop()
		cancel(nil)
	}
	return ctx, s
}

func (s *stall) reader(body io.ReadCloser, r *Remote) io.ReadCloser {
	return &stallReader{body, s, r}
}

type stallReader struct {
	io.ReadCloser
	stall  *stall
	remote *Remote
}

func (r *stallReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		r.stall.timer.Reset(stallTime)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = &Error{Where: r.remote.String(), Reason: fmt.Sprintf("broke off: %v", err), Err: err}
	}
	return n, err
}

func (r *stallReader) Close() error {
	r.stall.stop()
	return r.ReadCloser.Close()
}
