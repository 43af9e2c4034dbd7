package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	cfg.StreamOpenTimeout = 0 // nor is one that takes its time to boot
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

// up returns once the guest answers: PID 1 does so when it has started the
// application, and the network before.
func (g *guest) up(ctx context.Context) error {
	return g.ask(ctx, http.MethodGet, "/v1/status", http.NoBody)
}

func (g *guest) post(ctx context.Context, path string, body any) error {
	doc, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("asking the guest: %w", err)
	}
	return g.ask(ctx, http.MethodPost, path, bytes.NewReader(doc))
}

func (g *guest) ask(ctx context.Context, method, path string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://guest"+path, body)
	if err != nil {
		return fmt.Errorf("asking the guest: %w", err)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the guest: %w", err)
	}
	return answer(resp, nil)
}

// errCut is wrapped where an answer was cut off.
var errCut = errors.New("the answer was cut off")

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
		return fmt.Errorf("%w: %w", errCut, err)
	}
	return nil
}
