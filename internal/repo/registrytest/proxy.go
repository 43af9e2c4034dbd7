package registrytest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Proxy is a server in front of a registry, which a test lets misbehave.
type Proxy struct {
	Host string // 127.0.0.1:PORT

	mu    sync.Mutex
	count map[string]int
}

// Front starts a proxy in front of r, which ends with the test. Each request
// is given to handle; what that does not answer, by returning false, goes to
// the registry, and the answer through change, which may be nil.
func Front(t testing.TB, r *Registry, handle func(http.ResponseWriter, *http.Request) bool, change func(*http.Response) error) *Proxy {
	t.Helper()
	to, err := url.Parse(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{count: map[string]int{}}
	forward := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(to)
			pr.Out.Host = pr.In.Host // the registry names itself by that
		},
		ModifyResponse: change,
		// Cutting connections is what this is for: nothing is logged.
		ErrorLog:     log.New(io.Discard, "", 0),
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p.mu.Lock()
		p.count[req.Method+" "+req.URL.Path]++
		p.mu.Unlock()
		if handle == nil || !handle(w, req) {
			forward.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(server.Close)
	p.Host = server.Listener.Addr().String()
	return p
}

// Count returns how often a path was asked for with a method.
func (p *Proxy) Count(method, path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[method+" "+path]
}

// Cut makes resp end after n bytes of its body with a connection that breaks.
func Cut(resp *http.Response, n int64) {
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(resp.Body, n), broken{}), resp.Body}
}

// broken is a reader that fails.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
