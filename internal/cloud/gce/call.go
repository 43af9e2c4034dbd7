package gce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

const (
	// usualTries bounds how often a call is made that fails for a reason that
	// may pass; between the first two of them is firstPause, which doubles.
	usualTries = 8
	// briefTries is that where nobody is there, and somebody waits.
	briefTries = 5
	firstPause = 250 * time.Millisecond
	// callTime bounds one call, and longCallTime one that sends a piece of a
	// disk, or waits at the cloud's end.
	callTime     = time.Minute
	longCallTime = 5 * time.Minute
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 8 << 20
)

// call is a call of one of the APIs.
type call struct {
	method, url string
	body        any // sent as JSON, unless it is nil or []byte
	header      map[string]string
	long        bool
	// whole has the call come to its end once it is sent, whatever its context
	// says: it changes something, and one that is given up may still change it.
	whole bool
}

func (c call) String() string {
	var header string
	if r := c.header["Content-Range"]; r != "" {
		header = "  Content-Range: " + r
	}
	if c.body == nil {
		return c.method + " " + c.url + header
	}
	doc, err := json.Marshal(c.body)
	if err != nil {
		return c.method + " " + c.url + header // what is sent here always marshals
	}
	return c.method + " " + c.url + header + "  " + string(doc)
}

// do makes a call, again where that may help, and decodes the answer into out
// if that is not nil.
func (c *Client) do(ctx context.Context, what call, out any) error {
	return c.retry(ctx, func() error { return c.try(ctx, what, out) })
}

// try is do, once.
func (c *Client) try(ctx context.Context, what call, out any) error {
	answer, err := c.once(ctx, what)
	if err != nil {
		return err
	}
	if answer.status/100 != 2 {
		return answer.err(what.url, c)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer.body, out); err != nil {
		return fmt.Errorf("reading what %s answers: %w", c.service(what.url), err)
	}
	return nil
}

// answer is one that came.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// once makes a call and returns what is answered, whatever that is.
func (c *Client) once(ctx context.Context, what call) (answer, error) {
	if c.opts.Would != nil {
		c.opts.Would(what.String())
		return pretended(what), nil
	}
	limit := callTime
	if what.long {
		limit = longCallTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var body []byte
	switch b := what.body.(type) {
	case nil:
	case []byte:
		body = b
	default:
		var err error
		if body, err = json.Marshal(b); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, what.method, what.url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("User-Agent", "capstan/"+c.opts.Version)
	if _, raw := what.body.([]byte); what.body != nil && !raw {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range what.header {
		req.Header.Set(k, v)
	}
	token, err := c.token(ctx)
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.Response.StatusCode < 500:
		return answer{}, &CredentialsError{Err: refused}
	case err != nil:
		return answer{}, &lostError{c.service(what.url), cause(err), true}
	case token != nil:
		token.SetAuthHeader(req)
	}
	if what.whole {
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		req = req.WithContext(whole)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		return answer{}, &lostError{c.service(what.url), cause(err), errors.As(err, &op) && op.Op == "dial"}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, &lostError{c.service(what.url), err, false}
	}
	if len(b) > maxAnswer {
		return answer{}, fmt.Errorf("reading what %s answers: the answer is longer than %d bytes", c.service(what.url), maxAnswer)
	}
	return answer{resp.StatusCode, resp.Header, b}, nil
}

// token is what a call carries. Its source knows no context: one that does not
// answer is left behind, and gives up by itself.
func (c *Client) token(ctx context.Context) (*oauth2.Token, error) {
	if c.tokens == nil {
		return nil, nil
	}
	var token *oauth2.Token
	got := make(chan error, 1)
	go func() {
		var err error
		token, err = c.tokens.Token()
		got <- err
	}()
	select {
	case err := <-got:
		return token, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lostError is a connection that was not made, or broke.
type lostError struct {
	service string
	err     error
	deaf    bool // nobody was there
}

func (e *lostError) Error() string { return fmt.Sprintf("talking with %s: %v", e.service, e.err) }
func (e *lostError) Unwrap() error { return e.err }

// cause is what is wrong, without the URL, which may be a secret.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil || !strings.Contains(err.Error(), "http") {
			return err
		}
		err = inner
	}
}

func (c *Client) service(url string) string {
	if strings.HasPrefix(url, c.compute) {
		return "Compute Engine"
	}
	return "Cloud Storage"
}

// err reads the error that an answer tells of (Google's "Errors" pages).
func (a answer) err(url string, c *Client) error {
	e := &APIError{Service: c.service(url), Status: a.status}
	var doc struct {
		Error struct {
			Message string
			Errors  []struct{ Reason string }
		}
	}
	if json.Unmarshal(a.body, &doc) == nil { // else there is no more to tell
		e.Message = doc.Error.Message
		for _, one := range doc.Error.Errors {
			e.Reason = one.Reason
		}
	}
	if s, err := strconv.Atoi(a.header.Get("Retry-After")); err == nil && s > 0 && s < 60 {
		return &pauseError{e, time.Duration(s) * time.Second}
	}
	return e
}

// pauseError is an answer that says how long to wait.
type pauseError struct {
	error
	wait time.Duration
}

func (e *pauseError) Unwrap() error { return e.error }

// passing tells whether the same call may work in a moment.
func passing(err error) bool {
	var lost *lostError
	var answer *APIError
	switch {
	case errors.As(err, &answer):
		return answer.Status == http.StatusTooManyRequests || answer.Status == http.StatusRequestTimeout || answer.Status >= 500 ||
			answer.Reason == "rateLimitExceeded" || answer.Reason == "userRateLimitExceeded"
	case errors.As(err, &lost):
		return true
	}
	return false
}

// refused tells whether the cloud has said no.
func refused(err error) bool { return errors.As(err, new(*APIError)) && !passing(err) }

// retry calls again as long as that may help. After the end of ctx the error
// says so, and what was wrong before.
func (c *Client) retry(ctx context.Context, once func() error) error {
	pause := firstPause
	var last error
	for try := 1; ; try++ {
		err := once()
		var lost *lostError
		switch {
		case err == nil || !passing(err) || try == c.opts.Tries:
			return err
		case c.opts.brief && try == briefTries && errors.As(err, &lost) && lost.deaf:
			return err
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			if last != nil {
				err = fmt.Errorf("%w; %w", last, ctx.Err())
			}
			return err
		}
		last = err
		wait := pause/2 + rand.N(pause)
		var said *pauseError
		if errors.As(err, &said) {
			wait = max(wait, said.wait)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; %w", last, ctx.Err())
		case <-time.After(wait):
		}
		pause *= 2
	}
}
