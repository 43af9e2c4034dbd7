package gce

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"capstan/internal/hypervisor"
)

// slow is a cloud that takes its time to answer the same.
type slow struct {
	time time.Duration
	body string
}

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-time.After(s.time):
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(s.body)), Request: r}, nil
}

// TestBounds: who waits in vain is told for what and how long, also where a
// call is under way at the end; only who has cut the waiting short is not.
func TestBounds(t *testing.T) {
	const single, group = `{"id":"1","project":"p","zone":"z-a","name":"n"}`, `{"id":"1","project":"p","zone":"z-a","name":"n","group":true}`
	start := func(ctx context.Context, d *Driver) error { return d.Start(ctx, []byte(single)) }
	stop := func(ctx context.Context, d *Driver) error { return d.Stop(ctx, []byte(single), 0) }
	for name, c := range map[string]struct {
		cloud slow
		do    func(context.Context, *Driver) error
		say   string
	}{
		"a machine that stops":  {slow{0, `{"status":"STOPPING"}`}, start, "starting the machine: Compute Engine is not done after 10m0s"},
		"in a call":             {slow{50 * time.Second, `{"status":"STOPPING"}`}, start, "starting the machine: Compute Engine is not done after 10m0s"},
		"a machine that has it": {slow{0, `{"status":"RUNNING"}`}, stop, "stopping the machine: Compute Engine is not done after 5m0s"},
		"a group": {slow{7 * time.Second, `{"status":"DONE","targetSize":1}`}, func(ctx context.Context, d *Driver) error {
			return d.Stop(ctx, []byte(group), 0)
		}, "stopping the group: Compute Engine is not done after 15m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := New(Options{Tries: 1})
				d.open = &Client{opts: d.opts, http: &http.Client{Transport: c.cloud}, compute: computeURL, storage: storageURL}
				err := c.do(t.Context(), d)
				if err == nil || !strings.HasPrefix(err.Error(), c.say) || errors.Is(err, hypervisor.ErrUnreachable) {
					t.Errorf("%v", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := c.do(ctx, d); err == nil || strings.Contains(err.Error(), "not done after") {
					t.Errorf("cut short: %v", err)
				}
			})
		})
	}
}
