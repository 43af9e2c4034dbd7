//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"
)

// exchangeWith runs one exchange, handled by handle, for the standard
// library's client.
func exchangeWith(t *testing.T, req *http.Request, handle func(*exchange)) *http.Response {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer ours.Close()
			if x, err := readRequest(ours); err == nil {
				handle(x)
			}
		}()
		return theirs, nil
	}}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestExchange(t *testing.T) {
	big := strings.Repeat("0123456789", 20_000)
	for name, body := range map[string]io.Reader{"sized": strings.NewReader(big), "chunked": io.MultiReader(strings.NewReader(big)), "expecting": strings.NewReader(big)} {
		req, err := http.NewRequest("PUT", "http://guest/v1/files?path=/a%20b&x=1", body)
		if err != nil {
			t.Fatal(err)
		}
		if name == "expecting" {
			req.Header.Set("Expect", "100-continue")
		}
		resp := exchangeWith(t, req, func(x *exchange) {
			if x.method != "PUT" || x.path != "/v1/files" || x.query.Get("path") != "/a b" {
				t.Errorf("%s: %+v", name, x)
			}
			if got, err := io.ReadAll(x.body); string(got) != big || err != nil {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			out, err := x.stream("text/plain")
			if err != nil {
				t.Error(err)
			}
			io.WriteString(out, big)
			out.Close()
		})
		if got, err := io.ReadAll(resp.Body); string(got) != big || err != nil {
			t.Errorf("%s: answer of %d bytes, %v", name, len(got), err)
		}
	}
	req, err := http.NewRequest("GET", "http://guest/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp := exchangeWith(t, req, func(x *exchange) { x.refuse(statusConflict, errors.New("no")) })
	if got, err := io.ReadAll(resp.Body); string(got) != `{"error":"no"}`+"\n" || err != nil || resp.StatusCode != 409 {
		t.Errorf("refusal: %q, %v", got, err)
	}
	resp = exchangeWith(t, req, func(x *exchange) {
		out, _ := x.stream("text/plain")
		io.WriteString(out, big)
	})
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a stream that was cut short looks complete")
	}
}

func TestGone(t *testing.T) {
	ours, theirs := net.Pipe()
	go io.WriteString(theirs, "POST /v1/stop HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}")
	x, err := readRequest(ours)
	if err != nil {
		t.Fatal(err)
	}
	gone := x.gone()
	select {
	case <-gone:
		t.Error("the host is thought to have gone")
	case <-time.After(50 * time.Millisecond):
	}
	theirs.Close()
	<-gone
}

// held is a connection that holds what the host sends.
type held struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (h *held) Read(b []byte) (int, error)  { return h.in.Read(b) }
func (h *held) Write(b []byte) (int, error) { return h.out.Write(b) }
func (h *held) Close() error                { return nil }

func TestBadRequests(t *testing.T) {
	g := &guest{log: &log{}}
	for name, text := range map[string]string{
		"empty":         "",
		"no HTTP":       "hello\r\n\r\n",
		"two words":     "GET /\r\n\r\n",
		"bad target":    "GET %zz HTTP/1.1\r\n\r\n",
		"bad query":     "GET /?a=%zz HTTP/1.1\r\n\r\n",
		"bad header":    "GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"bad length":    "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"bad coding":    "GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
		"endless head":  "GET / HTTP/1.1\r\nA: " + strings.Repeat("x", 1<<20),
		"unfinished":    "GET / HTTP/1.1\r\nHost: g\r\n",
		"short body":    "POST /v1/stop HTTP/1.1\r\nContent-Length: 50\r\n\r\n{",
		"bad chunk":     "POST /v1/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"long chunk":    "POST /v1/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n",
		"missing chunk": "POST /v1/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{",
	} {
		h := &held{in: strings.NewReader(text)}
		g.serve(h)
		if !strings.HasPrefix(h.out.String(), "HTTP/1.1 400 Bad Request\r\n") {
			t.Errorf("%s: %q", name, h.out.String())
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("PUT /v1/files?path=/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := readRequest(&held{in: bytes.NewReader(text)})
		if err != nil {
			return
		}
		if got, _ := io.ReadAll(x.body); len(got) > len(text) {
			t.Errorf("%d bytes from %d", len(got), len(text))
		}
	})
}

// The chunks are those of the standard library.
func TestChunksAgree(t *testing.T) {
	var b bytes.Buffer
	w := httputil.NewChunkedWriter(&b)
	io.WriteString(w, "one")
	io.WriteString(w, strings.Repeat("two", 10_000))
	w.Close()
	h := &held{in: strings.NewReader("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b.String() + "\r\n")}
	x, err := readRequest(h)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(x.body); string(got) != "one"+strings.Repeat("two", 10_000) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
