package ec2

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"capstan/internal/hypervisor"
)

// interrupted opens a client of a cloud, and a context that ends with the first
// call that arrives there. Changes are answered then, and questions never.
func interrupted(t *testing.T) (context.Context, *Client, *atomic.Int32) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		interrupt()
		if r.FormValue("Action") != "DeleteSnapshot" {
			<-r.Context().Done() // the client has gone
			return
		}
		w.Header().Set("Content-Type", "text/xml")
		_, _ = w.Write([]byte("<DeleteSnapshotResponse><return>true</return></DeleteSnapshotResponse>"))
	}))
	t.Cleanup(server.Close)
	t.Cleanup(interrupt)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	c, err := dial(t.Context(), Options{Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, c, &calls
}

// TestWhole: an interrupt lets a change that is under way come to its end,
// begins none, and ends a question.
func TestWhole(t *testing.T) {
	ctx, c, calls := interrupted(t)
	if err := c.deleteSnapshot(ctx, "snap-1"); err != nil || ctx.Err() == nil {
		t.Errorf("interrupted while a change is under way: %v", err)
	}
	if err := c.deleteSnapshot(ctx, "snap-1"); !errors.Is(err, context.Canceled) || calls.Load() != 1 {
		t.Errorf("a change after an interrupt: %v, with %d calls", err, calls.Load())
	}
	ctx, c, calls = interrupted(t)
	if _, err := c.snapshots(ctx); !errors.Is(err, context.Canceled) || calls.Load() != 1 {
		t.Errorf("interrupted while a question is under way: %v, with %d calls", err, calls.Load())
	}
}

// TestExplain: what has no code of the cloud's is told apart, too.
func TestExplain(t *testing.T) {
	const none = "get identity: get credentials: failed to refresh cached credentials, no EC2 IMDS role found, operation error ec2imds: GetMetadata, access disabled"
	for text, want := range map[string]struct {
		wraps     error
		say, hint string
	}{
		none: {hypervisor.ErrNoCredentials, "there are no credentials for AWS", "aws configure"},
		"get identity: get credentials: failed to refresh cached credentials, the SSO session has expired or is invalid": {
			nil, "the AWS credentials cannot be had: the SSO session has expired", "aws sso login"},
		"request send failed, Post \"https://ec2.eu-central-1.amazonaws.com\": dial tcp: no such host": {hypervisor.ErrUnreachable, "no such host", "reaches AWS"},
	} {
		err := explain("listing", errors.New(text))
		var hinted interface{ Hint() string }
		if !strings.HasPrefix(err.Error(), "ec2: listing: ") || !strings.Contains(err.Error(), want.say) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), want.hint) {
			t.Errorf("%q: %v", text, err)
		}
		for _, sentinel := range []error{hypervisor.ErrNoCredentials, hypervisor.ErrUnreachable} {
			if errors.Is(err, sentinel) != (sentinel == want.wraps) {
				t.Errorf("%q is %v: %t", text, sentinel, sentinel != want.wraps)
			}
		}
	}
}
