package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/hashicorp/yamux"

	"capstan/guest/api"
)

// guest talks to a machine's PID 1 over its control channel.
type guest struct {
	session *yamux.Session
	client  *http.Client
}

func newGuest(control io.ReadWriteCloser) *guest {
	cfg := yamux.DefaultConfig()
	cfg.LogOutput = io.Discard
	// A machine that is starved of CPU is not gone; its end shows anyway.
	cfg.EnableKeepAlive = false
	session, err := yamux.Client(control, cfg)
	if err != nil {
		panic(err) // only a wrong config can do that
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return session.Open() }
	return &guest{session: session, client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

func (g *guest) Close() error { return g.session.Close() }

// stop asks for an orderly end; the answer comes at once.
func (g *guest) stop(ctx context.Context, timeout int) error {
	return g.post(ctx, "/v1/stop", api.StopRequest{Timeout: timeout})
}

func (g *guest) post(ctx context.Context, path string, body any) error {
	doc, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("asking the guest: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest"+path, bytes.NewReader(doc))
	if err != nil {
		return fmt.Errorf("asking the guest: %w", err)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the guest: %w", err)
	}
	return answer(resp, nil)
}

// answer reads a response of the guest's or the supervisor's: v, where it is
// not nil, on success, and the error's text otherwise.
func answer(resp *http.Response, v any) error {
	defer resp.Body.Close()
	body := json.NewDecoder(io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode >= 400 {
		var e api.Error
		if err := body.Decode(&e); err != nil || e.Error == "" {
			e.Error = resp.Status
		}
		return fmt.Errorf("%s", e.Error)
	}
	if v == nil {
		return nil
	}
	if err := body.Decode(v); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}
