package remote

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"capstan/internal/repo"
)

// server answers the n-th request for what is not the API's base, from 1.
func server(t *testing.T, answer func(w http.ResponseWriter, n int)) (host string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		answer(w, int(asked.Add(1)))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

func quick(opts Options) *Client {
	opts.Pause = time.Millisecond
	return New(opts)
}

func imageName(t testing.TB, s string) repo.Name {
	t.Helper()
	n, err := repo.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTries(t *testing.T) {
	for _, c := range []struct {
		say     string
		answer  func(w http.ResponseWriter, n int)
		asked   int32
		want    string
		missing bool
	}{
		{"401", func(w http.ResponseWriter, _ int) { w.WriteHeader(401) }, 1, "wants other credentials", false},
		{"403", func(w http.ResponseWriter, _ int) { w.WriteHeader(403) }, 1, "denies access to app", false},
		{"404", func(w http.ResponseWriter, _ int) { w.WriteHeader(404) }, 1, "has no app:1", true},
		{"400", func(w http.ResponseWriter, _ int) { w.WriteHeader(400) }, 1, "answers 400", false},
		{"503 for ever", func(w http.ResponseWriter, _ int) { w.WriteHeader(503) }, maxTries, "answers 503 Service Unavailable", false},
		{"429 for an hour", func(w http.ResponseWriter, _ int) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
		}, 1, "was asked too often", false},
		{"429 for a second, then 404", func(w http.ResponseWriter, n int) {
			if n == 1 {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(429)
				return
			}
			w.WriteHeader(404)
		}, 2, "has no app:1", true},
		{"a burst of 5xx, then 404", func(w http.ResponseWriter, n int) {
			w.WriteHeader([]int{500, 502, 503, 504, 404}[n-1])
		}, 5, "has no app:1", true},
		{"broken off, then 404", func(w http.ResponseWriter, n int) {
			if n < 3 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(404)
		}, 3, "has no app:1", true},
		{"broken off for ever", func(http.ResponseWriter, int) { panic(http.ErrAbortHandler) }, maxTries, "breaks off again and again", false},
		{"a long story", func(w http.ResponseWriter, _ int) {
			w.WriteHeader(403)
			w.Write([]byte(`{"errors":[{"code":"DENIED","message":"` + strings.Repeat(`because\n`, 900) + `"}]}`))
		}, 1, "denies access to app: because because", false},
	} {
		t.Run(c.say, func(t *testing.T) {
			host, asked := server(t, c.answer)
			_, err := quick(Options{}).Image(t.Context(), imageName(t, host+"/app:1"), linux)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 600 {
				t.Errorf("Image: %v; want it to say %q in a line", err, c.want)
			}
			var e *Error
			if !errors.As(err, &e) || e.Hint() == "" {
				t.Errorf("%v has no hint", err)
			}
			if errors.Is(err, repo.ErrNotFound) != c.missing {
				t.Errorf("%v is ErrNotFound: %v, want %v", err, !c.missing, c.missing)
			}
			// net/http tries once more where it used a connection again.
			got := asked.Load()
			if strings.HasPrefix(c.say, "broken off for ever") && got == c.asked+1 {
				got = c.asked
			}
			if got != c.asked {
				t.Errorf("the registry was asked %d times, want %d", got, c.asked)
			}
		})
	}
}

func TestNoConnection(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for host, want := range map[string]string{
		gone.Listener.Addr().String(): "the connection is refused",
		"registry.invalid":            "no such host",
	} {
		if _, err := quick(Options{}).Image(t.Context(), imageName(t, host+"/app:1"), linux); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want it to say %q", host, err, want)
		}
	}
}

// TestPlainHTTP asks registries that are not on this machine, which a proxy
// stands for.
func TestPlainHTTP(t *testing.T) {
	var plain atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect { // HTTPS: there is none
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		plain.Add(1)
		if !strings.HasSuffix(r.URL.Path, "/v2/") {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer proxy.Close()
	through, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	for host, insecure := range map[string]bool{"10.1.2.3:5000": false, "registry.example.org": false, "registry.local": false, "10.1.2.4:5000": true} {
		c := quick(Options{Registries: repo.Registries{{Host: host, Insecure: insecure}}})
		b, err := c.base(host)
		if err != nil {
			t.Fatal(err)
		}
		b.inner.(*http.Transport).Proxy = http.ProxyURL(through)
		plain.Store(0)
		_, err = c.Image(t.Context(), imageName(t, host+"/app:1"), linux)
		if spoken := plain.Load() > 0; err == nil || spoken != insecure || errors.Is(err, repo.ErrNotFound) != insecure {
			t.Errorf("%s: spoke plain HTTP: %v, want %v; %v", host, spoken, insecure, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("Retry-After %q: %v, want %v", text, got, want)
		}
	}
	for n := 1; n < 60; n++ {
		if d := pauseFor(250*time.Millisecond, n); d < 125*time.Millisecond || d > maxPause {
			t.Errorf("pause %d is %v", n, d)
		}
	}
}

func TestRangeStart(t *testing.T) {
	for text, want := range map[string]int64{
		"bytes 5-9/10": 5, "bytes 0-0/*": 0, "bytes */10": -1, "": -1, "bytes 5": -1, "items 5-9/10": -1, "bytes -5-9/10": -1,
	} {
		if got := rangeStart(text); got != want {
			t.Errorf("Content-Range %q starts at %d, want %d", text, got, want)
		}
	}
}
