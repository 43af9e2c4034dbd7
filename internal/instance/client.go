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

// endPatience bounds the wait for a supervisor that is about to begin, or to
// end: in its last moments it answers nobody and still holds its lock.
const endPatience = 15 * time.Second

// client returns an HTTP client of the instance's supervisor.
func (i *Instance) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: i.connect, DisableKeepAlives: true}}
}

// connect waits for a supervisor that is just beginning.
func (i *Instance) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	for {
		conn, err := dial(ctx, i.Dir)
		if err == nil {
			return conn, nil
		}
		if !supervised(i.Dir) {
			return nil, ErrNotRunning
		}
		select {
		case <-time.After(retryLock):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (i *Instance) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	if i.remote != nil {
		return nil, fmt.Errorf("%s runs on %s, where there is no channel to the guest that this takes", i.Config.Name, i.Config.Platform)
	}
	u := url.URL{Scheme: "http", Host: "supervisor", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.Config.Name, err)
	}
	resp, err := i.client().Do(req)
	if err != nil {
		return nil, i.lost(ctx, errors.Unwrap(err))
	}
	return resp, nil
}

// lost is the error of a request that the supervisor did not answer.
func (i *Instance) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	bound, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	if errors.Is(err, ErrNotRunning) || i.gone(bound) == nil {
		return fmt.Errorf("%s: %w", i.Config.Name, ErrNotRunning)
	}
	return fmt.Errorf("reaching the supervisor of %s: %w", i.Config.Name, err)
}

func (i *Instance) call(ctx context.Context, method, path string, query url.Values, body io.Reader, v any) error {
	resp, err := i.do(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	return i.answered(ctx, resp, v)
}

// answered reads the answer to a request.
func (i *Instance) answered(ctx context.Context, resp *http.Response, v any) error {
	err := answer(resp, v)
	if errors.Is(err, errCut) {
		return i.lost(ctx, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", i.Config.Name, err)
	}
	return nil
}

// Follow copies the application's output from an offset of the log to w,
// until the instance ends. Of a reader that is slower than the log's rotation
// it skips what is gone.
func (i *Instance) Follow(ctx context.Context, w io.Writer, offset int64) error {
	console, err := i.output(ctx, offset, false)
	if err != nil {
		return err
	}
	defer console.Close()
	_, err = io.Copy(w, console)
	return err
}

// Attachment is a connection to a running instance, which gets all of its
// output and its end.
type Attachment struct {
	// Output is the application's, until the instance ends. Nothing of it is
	// skipped: if it is not read, the application waits in the end, as with a
	// pipe.
	Output io.ReadCloser

	inst *Instance
	end  *http.Response
	read <-chan struct{} // on a remote platform: closed once nobody reads for Output any more
}

// Attach connects to the instance, to read its output from an offset of the log.
// On a remote platform that is where its current run begins.
func (i *Instance) Attach(ctx context.Context, offset int64) (*Attachment, error) {
	if i.remote != nil {
		return i.attachRemote(ctx)
	}
	output, err := i.output(ctx, offset, true)
	if err != nil {
		return nil, err
	}
	end, err := i.do(ctx, http.MethodGet, "/wait", nil, nil)
	if err != nil {
		output.Close()
		return nil, err
	}
	return &Attachment{Output: output, inst: i, end: end}, nil
}

// Wait returns the instance's last state once it has ended.
func (a *Attachment) Wait(ctx context.Context) (State, error) {
	if a.inst.remote != nil {
		select {
		case <-a.read: // who has read may have heard how it ended
		case <-ctx.Done():
			return State{}, ctx.Err()
		}
		last, err := a.inst.waitRemote(ctx)
		if err == nil && a.inst.Config.Remove {
			err = a.inst.Remove(ctx)
		}
		return last, err
	}
	var state State
	err := a.inst.answered(ctx, a.end, &state)
	return a.inst.stateOr(&state, err)
}

func (i *Instance) output(ctx context.Context, offset int64, all bool) (io.ReadCloser, error) {
	query := url.Values{"offset": {strconv.FormatInt(offset, 10)}, "all": {strconv.FormatBool(all)}}
	resp, err := i.do(ctx, http.MethodGet, "/console", query, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Input sends r to the application's standard input, and its end.
func (i *Instance) Input(ctx context.Context, r io.Reader) error {
	return i.call(ctx, http.MethodPost, "/console", nil, struct{ io.Reader }{r}, nil)
}

// Up waits until the application was started, or the machine has ended before
// that could be known, and returns the state then. A guest that is slow to
// start it is not waited for beyond some seconds.
func (i *Instance) Up(ctx context.Context) (State, error) {
	if i.remote != nil {
		return i.upRemote(ctx)
	}
	return i.state(ctx, "/up")
}

// Wait returns the instance's last state once it has ended. One that is not
// running has ended already.
func (i *Instance) Wait(ctx context.Context) (State, error) {
	if i.remote != nil {
		return i.waitRemote(ctx)
	}
	return i.state(ctx, "/wait")
}

func (i *Instance) state(ctx context.Context, path string) (State, error) {
	var state State
	err := i.call(ctx, http.MethodGet, path, nil, nil, &state)
	return i.stateOr(&state, err)
}

// stateOr is the state that the supervisor told, or else, where it is gone,
// what the directory holds.
func (i *Instance) stateOr(told *State, err error) (State, error) {
	if !errors.Is(err, ErrNotRunning) {
		return *told, err
	}
	if err := i.Refresh(); err != nil {
		return State{}, fmt.Errorf("%s: %w", i.Config.Name, ErrNotFound) // it was to be removed
	}
	return i.State, nil
}

// Stop ends the instance: its application has timeout seconds (negative: its
// own stop timeout) before it is killed. It returns once the supervisor has
// ended too, and the instance is gone if that was asked for.
func (i *Instance) Stop(ctx context.Context, timeout int) error {
	if i.remote != nil {
		return i.stopRemote(ctx, timeout)
	}
	query := url.Values{"timeout": {strconv.Itoa(timeout)}}
	if err := i.call(ctx, http.MethodPost, "/stop", query, nil, nil); err != nil {
		return err
	}
	return i.gone(ctx)
}

// Kill cuts the instance's power, and returns as Stop does.
func (i *Instance) Kill(ctx context.Context) error {
	if i.remote != nil {
		return i.endRemote(ctx, 0)
	}
	if err := i.call(ctx, http.MethodPost, "/kill", nil, nil, nil); err != nil {
		return err
	}
	return i.gone(ctx)
}

// gone waits until the supervisor has let go of the instance.
func (i *Instance) gone(ctx context.Context) error {
	held := newLock(i.Dir, readOnly)
	defer held.Close()
	if ok, err := held.TryRLockContext(ctx, retryLock); !ok && !os.IsNotExist(err) {
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
