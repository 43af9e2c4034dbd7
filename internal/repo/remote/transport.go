package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"capstan/internal/repo"
)

// Bounds on trying again.
const (
	maxTries = 6
	maxPause = 10 * time.Second
	maxWait  = 2 * time.Minute // what a registry may ask for

	// slowWrites is how many times longer a registry may take to answer that
	// it has taken something, because it moves that within its storage.
	slowWrites = 4
)

// base is the transport below authentication. It tries requests again that
// failed for a reason that may pass, and gives up connections that stall.
type base struct {
	inner    http.RoundTripper
	insecure bool // plain HTTP may be spoken
	pause    time.Duration
	stall    time.Duration
	agent    string
}

func newBase(opts Options, reg repo.Registry) (*base, error) {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     30 * time.Second,
		TLSHandshakeTimeout: 15 * time.Second,
		// A blob is what its digest says, not what that decompresses to.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if reg.CAFile != "" {
		pool, err := readCA(reg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the CA of %s: %w", reg.Host, err)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &base{inner: t, insecure: reg.Insecure, pause: opts.Pause, stall: opts.Stall, agent: opts.UserAgent}, nil
}

// readCA returns the system's certificates and those in the file at path.
func readCA(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return pool, nil
}

// plainError is a request by plain HTTP to where that is not allowed.
type plainError struct{ host string }

func (e *plainError) Error() string { return "plain HTTP to " + e.host + " is not allowed" }

// isLoopback reports whether host[:port] is this machine.
func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && addr.Unmap().IsLoopback()
}

// maxRedirects is as many as net/http follows.
const maxRedirects = 10

// checkRedirect lets a registry send a client elsewhere, as those do that keep
// blobs in a cloud's storage, but not into this machine from outside.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	first := via[0].URL
	if req.URL.User != nil {
		return &redirectError{first.Host, req.URL.Host, "with a password in the address"}
	}
	if first.Scheme == "https" && req.URL.Scheme != "https" {
		return &redirectError{first.Host, req.URL.Host, "by plain HTTP"}
	}
	addr, err := netip.ParseAddr(req.URL.Hostname())
	local := isLoopback(req.URL.Host) || err == nil && (addr.Unmap().IsLinkLocalUnicast() || addr.IsUnspecified())
	if local && !isLoopback(first.Host) {
		return &redirectError{first.Host, req.URL.Host, "on this machine"}
	}
	return nil
}

// redirectError is a redirect that is not followed.
type redirectError struct{ from, to, how string }

func (e *redirectError) Error() string {
	return fmt.Sprintf("%s redirects to %s %s, which is refused", e.from, e.to, e.how)
}

// RoundTrip implements http.RoundTripper.
func (b *base) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && !b.insecure && !isLoopback(req.URL.Host) {
		closeBody(req)
		return nil, &plainError{req.URL.Host}
	}
	for try := 1; ; try++ {
		attempt, err := again(req, try)
		if err != nil {
			return nil, err
		}
		resp, err := b.once(attempt)
		if !replayable(req) || !passing(resp, err) {
			return resp, err
		}
		if try == maxTries {
			if err != nil {
				err = &triedError{err}
			}
			return resp, err
		}
		wait := pauseFor(b.pause, try)
		if resp != nil {
			asked := retryAfter(resp.Header, time.Now())
			if asked > maxWait {
				return resp, nil
			}
			wait = max(wait, asked)
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // keeps the connection
			_ = resp.Body.Close()
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// triedError is an error that came again at every try.
type triedError struct{ err error }

func (e *triedError) Error() string { return e.err.Error() }
func (e *triedError) Unwrap() error { return e.err }

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// again returns req for its n-th try.
func again(req *http.Request, n int) (*http.Request, error) {
	next := req.Clone(req.Context())
	if n > 1 && req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		next.Body = body
	}
	return next, nil
}

// replayable reports whether sending req twice does no more than sending it
// once. A part of an upload that was sent is not sent again: the upload is.
func replayable(req *http.Request) bool {
	if req.Method == http.MethodPatch {
		return false
	}
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// passing reports whether what a try gave may be better another time.
func passing(resp *http.Response, err error) bool {
	if err != nil {
		return !permanent(err)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// permanent reports whether a request that failed with err would fail again.
func permanent(err error) bool {
	var (
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		alert   tls.AlertError
		plain   *plainError
		refused *redirectError
	)
	switch {
	case errors.Is(err, errStalled):
		return false
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return true
	case errors.As(err, &dns):
		return !dns.IsTemporary && !dns.IsTimeout
	case errors.As(err, &cert), errors.As(err, &alert), errors.As(err, &plain), errors.As(err, &refused):
		return true
	}
	return speaksPlain(err) || errors.Is(err, syscall.ECONNREFUSED)
}

// speaksPlain reports whether err says that a server does not speak TLS.
func speaksPlain(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record)
}

// pauseFor returns how long to wait after the n-th try: twice as long each
// time, and by chance between half of that and all.
func pauseFor(first time.Duration, n int) time.Duration {
	d := min(first<<min(n-1, 10), maxPause)
	return d/2 + rand.N(d/2+1)
}

// retryAfter returns how long a registry asks to wait: RFC 9110, section
// 10.2.3.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return time.Duration(min(n, 1<<20)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// sleep waits, until ctx ends at the longest.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errStalled is a connection on which nothing moved for too long.
var errStalled = errors.New("nothing arrived for too long")

// once does one try. It ends if nothing moves, in either direction, for the
// time that a connection may stall, until the answer's body is closed.
func (b *base) once(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{cancel: cancel, limit: b.stall}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.limit *= slowWrites
	}
	w.timer = time.AfterFunc(w.limit, func() { cancel(errStalled) })
	req = req.WithContext(ctx)
	if b.agent != "" {
		req.Header.Set("User-Agent", b.agent)
	}
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &watchedBody{ReadCloser: req.Body, watch: w, ctx: ctx}
	}
	resp, err := b.inner.RoundTrip(req)
	if err != nil {
		err = cause(ctx, err)
		w.end()
		return nil, err
	}
	w.moved()
	resp.Body = &watchedBody{ReadCloser: resp.Body, watch: w, ctx: ctx, last: true}
	return resp, nil
}

// cause returns why a request ended: a stall looks like a cancellation.
func cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// watch cancels a request on which nothing moves.
type watch struct {
	timer  *time.Timer
	limit  time.Duration
	cancel context.CancelCauseFunc
}

func (w *watch) moved() { w.timer.Reset(w.limit) }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// watchedBody tells a watch that something moves.
type watchedBody struct {
	io.ReadCloser
	watch *watch
	ctx   context.Context
	last  bool // its end is the request's
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watch.moved()
	}
	if err != nil && err != io.EOF {
		err = cause(b.ctx, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.last {
		b.watch.end()
	}
	return err
}
