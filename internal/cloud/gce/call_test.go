package gce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"capstan/internal/cloud/gce/gcetest"
	"capstan/internal/hypervisor"
)

// TestTokenHangs: who waits for a token can be interrupted.
func TestTokenHangs(t *testing.T) {
	asked := make(chan struct{}, 9)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or its end is not noticed
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	t.Setenv("CLOUDSDK_CONFIG", t.TempDir())
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", gcetest.Account(t, server.URL+"/token"))
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	c, err := Open(ctx, Options{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-asked
		interrupt()
	}()
	if err := c.do(ctx, c.getNetwork(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestInterruptedTries: who is interrupted makes no further try, also of what
// changes something.
func TestInterruptedTries(t *testing.T) {
	push := func(ctx context.Context, c *Client) error {
		_, err := c.Push(ctx, testPush())
		return err
	}
	for path, do := range map[string]func(context.Context, *Client) error{
		"/storage/v1/b": push, "/images": push,
		"/firewalls": func(ctx context.Context, c *Client) error {
			return c.make(ctx, "opening the ports", c.insertFirewall(firewall{}))
		},
	} {
		cloud := gcetest.Start(t)
		c := open(t, cloud, Options{})
		ctx, interrupt := context.WithCancel(t.Context())
		tries := 0
		cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
			if r.Method != "POST" || !strings.HasSuffix(r.URL.Path, path) {
				return gcetest.Trouble{}
			}
			tries++
			interrupt()
			return gcetest.Trouble{Status: http.StatusServiceUnavailable}
		})
		err := do(ctx, c)
		cloud.Trouble(nil)
		if !errors.Is(err, context.Canceled) || tries != 1 {
			t.Errorf("%s: %v, after %d tries", path, err, tries)
		}
		if images, buckets := cloud.Left(t); len(images)+len(buckets) > 0 {
			t.Errorf("%s: left %q, %q", path, images, buckets)
		}
	}
}

// answering is a cloud that says what a function does.
type answering func(*http.Request) (status int, body string, err error)

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body, err := a(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (a answering) client() *Client {
	return &Client{opts: Options{Tries: usualTries, Progress: func(string, int64, int64) {}}, http: &http.Client{Transport: a}, compute: computeURL, storage: storageURL}
}

// TestNobodyThere: a question is given up soon where nobody listens, and a push
// is not.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		c := answering(func(*http.Request) (int, string, error) {
			tries++
			return 0, "", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}).client()
		d := New(Options{})
		c.opts.brief = d.opts.brief
		d.open = c
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := d.Status(ctx, []byte(`{"id":"1","project":"p","zone":"z-a","name":"n"}`))
		if !errors.Is(err, hypervisor.ErrUnreachable) || !strings.Contains(err.Error(), "connection refused") || tries != briefTries || ctx.Err() != nil {
			t.Errorf("%v, after %d tries", err, tries)
		}
		tries = 0
		if _, err := c.patient().find(t.Context(), testPush()); err == nil || tries != usualTries {
			t.Errorf("%v, after %d tries", err, tries)
		}
	})
}

// TestLastError: where the time is over, it is told what was wrong till then.
func TestLastError(t *testing.T) {
	for _, slowAfter := range []int{99, 2} { // in a pause, and in a call
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			c := answering(func(r *http.Request) (int, string, error) {
				if tries++; tries > slowAfter {
					<-r.Context().Done()
					return 0, "", r.Context().Err()
				}
				return http.StatusServiceUnavailable, `{"error":{"message":"overloaded"}}`, nil
			}).client()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := c.do(ctx, c.getNetwork(), nil)
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "Compute Engine answers 503: overloaded") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestImageBound: an image that is never finished is told as that.
func TestImageBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPush()
		c := answering(func(r *http.Request) (int, string, error) {
			if r.Method == "POST" {
				return http.StatusOK, `{"name":"operation-1","status":"RUNNING"}`, nil
			}
			return http.StatusOK, `{"status":"PENDING","labels":{"capstan-disk":"` + label(p.Disk) + `"}}`, nil
		}).client()
		const say = "making the image: Compute Engine is not done after 30m0s"
		if _, err := c.find(t.Context(), p); err == nil || !strings.HasPrefix(err.Error(), say) {
			t.Errorf("another's: %v", err)
		}
		if err := c.makeImage(t.Context(), p, &stage{}); err == nil || !strings.HasPrefix(err.Error(), say) {
			t.Errorf("an own one: %v", err)
		}
	})
}
