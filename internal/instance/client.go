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
	"net/url"
	"os"
	"strconv"
	"time"

	"capstan/guest/api"
)

// client returns an HTTP client of the instance's supervisor.
func (i *Instance) client() *http.Client {
	dir := i.Dir
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) }
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

func (i *Instance) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "supervisor", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.Config.Name, err)
	}
	resp, err := i.client().Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !supervised(i.Dir) {
			return nil, fmt.Errorf("%s: %w", i.Config.Name, ErrNotRunning)
		}
		return nil, fmt.Errorf("reaching the supervisor of %s: %w", i.Config.Name, errors.Unwrap(err))
	}
	return resp, nil
}

func (i *Instance) call(ctx context.Context, method, path string, query url.Values, body io.Reader, v any) error {
	resp, err := i.do(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	if err := answer(resp, v); err != nil {
		return fmt.Errorf("%s: %w", i.Config.Name, err)
	}
	return nil
}

// Follow copies the application's output from an offset of the log to w,
// until the instance ends.
func (i *Instance) Follow(ctx context.Context, w io.Writer, offset int64) error {
	resp, err := i.do(ctx, http.MethodGet, "/console", url.Values{"offset": {strconv.FormatInt(offset, 10)}}, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// Input sends r to the application's standard input, and its end.
func (i *Instance) Input(ctx context.Context, r io.Reader) error {
	return i.call(ctx, http.MethodPost, "/console", nil, struct{ io.Reader }{r}, nil)
}

// Wait returns the instance's last state once it has ended. One that is not
// running has ended already.
func (i *Instance) Wait(ctx context.Context) (State, error) {
	var state State
	err := i.call(ctx, http.MethodGet, "/wait", nil, nil, &state)
	if err == nil {
		return state, nil
	}
	if ctx.Err() != nil || supervised(i.Dir) {
		return State{}, err
	}
	if refreshErr := i.Refresh(); refreshErr != nil {
		return State{}, err
	}
	return i.State, nil
}

// Stop ends the instance: its application has timeout seconds (negative: its
// own stop timeout) before it is killed. It returns once the supervisor has
// ended too, and the instance is gone if that was asked for.
func (i *Instance) Stop(ctx context.Context, timeout int) error {
	query := url.Values{"timeout": {strconv.Itoa(timeout)}}
	if err := i.call(ctx, http.MethodPost, "/stop", query, nil, nil); err != nil {
		return err
	}
	return i.gone(ctx)
}

// Kill cuts the instance's power, and returns as Stop does.
func (i *Instance) Kill(ctx context.Context) error {
	if err := i.call(ctx, http.MethodPost, "/kill", nil, nil, nil); err != nil {
		return err
	}
	return i.gone(ctx)
}

// gone waits until the supervisor has let go of the instance.
func (i *Instance) gone(ctx context.Context) error {
	held := newLock(i.Dir, readOnly)
	defer held.Close()
	if ok, err := held.TryRLockContext(ctx, 5*time.Millisecond); !ok && !os.IsNotExist(err) {
		return fmt.Errorf("waiting for the end of %s: %w", i.Config.Name, err)
	}
	return nil
}

// Signal sends a signal to the application.
func (i *Instance) Signal(ctx context.Context, signal string) error {
	return i.post(ctx, "/v1/signal", api.SignalRequest{Signal: signal})
}

// Resize tells the application the size of its terminal.
func (i *Instance) Resize(ctx context.Context, rows, cols int) error {
	return i.post(ctx, "/v1/resize", api.ResizeRequest{Rows: rows, Cols: cols})
}

// Stats reads the guest's counters.
func (i *Instance) Stats(ctx context.Context) (api.Stats, error) {
	var stats api.Stats
	err := i.call(ctx, http.MethodGet, "/guest/v1/stats", nil, nil, &stats)
	return stats, err
}

func (i *Instance) post(ctx context.Context, path string, v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return i.call(ctx, http.MethodPost, "/guest"+path, nil, bytes.NewReader(doc), nil)
}
