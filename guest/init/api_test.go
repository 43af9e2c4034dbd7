//go:build linux && e2e

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"capstan/guest/api"
)

func TestStop(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  api.Config
		req  api.StopRequest
		out  string
		want api.Exit
	}{
		"graceful":     {api.Config{Args: []string{"app", "stop"}}, api.StopRequest{Timeout: -1}, "got terminated", api.Exit{Status: 7}},
		"other signal": {api.Config{Args: []string{"app", "stop"}, StopSignal: "QUIT"}, api.StopRequest{Timeout: -1}, "got quit", api.Exit{Status: 7}},
		"config's time-out": {api.Config{Args: []string{"app", "stop", "never"}, StopTimeout: 1}, api.StopRequest{Timeout: -1}, "got terminated",
			api.Exit{Status: 137, Signal: 9, Reason: "the application did not end in time and was killed"}},
		"request's time-out": {api.Config{Args: []string{"app", "stop", "never"}, StopTimeout: 600}, api.StopRequest{Timeout: 1}, "got terminated",
			api.Exit{Status: 137, Signal: 9, Reason: "the application did not end in time and was killed"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Network = noNetwork
			m := boot(t, c.cfg, setup{})
			m.expect("ready\n")
			if code := m.call("POST", "/v1/stop", c.req, nil); code != 200 {
				t.Errorf("answered with %d", code)
			}
			out, exit := m.end()
			if exit != c.want || !strings.Contains(out, c.out) {
				t.Errorf("got %+v, want %+v; %s", exit, c.want, out)
			}
		})
	}
}

func TestRequests(t *testing.T) {
	m := boot(t, api.Config{Args: []string{"app", "stop", "never"}, Network: noNetwork}, setup{})
	m.expect("ready\n")
	var s api.Status
	if m.call("GET", "/v1/status", nil, &s); s.State != "running" || s.PID < 2 || !strings.HasPrefix(s.Kernel, "6.") || time.Since(s.Started) > time.Hour {
		t.Errorf("status: %+v", s)
	}
	var st api.Stats
	if m.call("GET", "/v1/stats", nil, &st); st.CPUs != 1 || st.MemoryTotal < 64<<20 || st.MemoryUsed <= 0 || st.MemoryUsed >= st.MemoryTotal ||
		st.Processes != 1 || st.BlockRead == 0 || st.Uptime <= 0 || st.CPUTime <= 0 || st.CPUTime > 2*st.Uptime {
		t.Errorf("stats: %+v", st)
	}
	if code := m.call("POST", "/v1/signal", api.SignalRequest{Signal: "usr1"}, nil); code != 200 {
		t.Errorf("signal: %d", code)
	}
	m.expect("got user defined signal 1")
	for _, c := range []struct {
		method, path string
		body         any
		want         int
		text         string
	}{
		{"POST", "/v1/signal", api.SignalRequest{Signal: "SIGNOPE"}, 400, `"SIGNOPE" is not a signal`},
		{"POST", "/v1/signal", "no object", 400, "the request is not valid"},
		{"POST", "/v1/resize", api.ResizeRequest{Rows: 1, Cols: 1}, 409, "the program has no terminal"},
		{"POST", "/v1/stdin/close", nil, 409, "the application has no standard input"},
		{"GET", "/v1/nope", nil, 404, "the guest knows no GET /v1/nope"},
		{"GET", "/v1/files?path=/no/such", nil, 404, "no such file"},
		{"GET", "/v1/files", nil, 400, "the request names no path"},
		{"POST", "/v1/exec", api.ExecRequest{}, 400, "the request names no program"},
	} {
		var e api.Error
		if code := m.call(c.method, c.path, c.body, &e); code != c.want || !strings.Contains(e.Error, c.text) {
			t.Errorf("%s %s: %d %q", c.method, c.path, code, e.Error)
		}
	}
	m.call("POST", "/v1/signal", api.SignalRequest{Signal: "9"}, nil)
	if _, exit := m.end(); exit != (api.Exit{Status: 137, Signal: 9}) {
		t.Errorf("ended with %+v", exit)
	}
}

// Input that is on its way when its end is asked for arrives.
func TestStandardInput(t *testing.T) {
	m := boot(t, api.Config{Args: []string{"app", "cat"}, Stdin: true, Network: noNetwork}, setup{})
	text := strings.Repeat("0123456789abcde\n", 1<<16)
	if code := m.call("POST", "/v1/stdin/close", api.StdinCloseRequest{After: int64(len(text))}, nil); code != 200 {
		t.Errorf("answered with %d", code)
	}
	if _, err := io.WriteString(m.console, text); err != nil {
		t.Fatal(err)
	}
	if out, exit := m.end(); out != text || exit != (api.Exit{}) {
		t.Errorf("%d bytes of %d came back; %+v", len(out), len(text), exit)
	}
}

func TestTerminal(t *testing.T) {
	m := boot(t, api.Config{Args: []string{"app", "tty"}, TTY: true, Stdin: true, Rows: 31, Cols: 97, User: "web", Network: noNetwork}, setup{})
	m.expect("size 31 97\r\n")
	if _, err := io.WriteString(m.console, "hello\r"); err != nil {
		t.Fatal(err)
	}
	m.expect(`line "hello\n"`)
	m.call("POST", "/v1/resize", api.ResizeRequest{Rows: 50, Cols: 132}, nil)
	m.expect("size 50 132\r\n")
	m.call("POST", "/v1/stdin/close", api.StdinCloseRequest{After: 6}, nil)
	if out, exit := m.end(); exit != (api.Exit{}) || !strings.Contains(out, "end of input\r\n") {
		t.Errorf("%+v, %q", exit, out)
	}
}

// exec runs a program in m, gives it input, and returns what it wrote.
func (m *machine) exec(req api.ExecRequest, input string) (stdout, stderr string, exit api.Exit) {
	m.t.Helper()
	conn, err := m.session.Open()
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	doc, err := json.Marshal(req)
	if err != nil {
		m.t.Fatal(err)
	}
	hreq, err := http.NewRequest("POST", "http://guest/v1/exec", bytes.NewReader(doc))
	if err != nil {
		m.t.Fatal(err)
	}
	if err := hreq.Write(conn); err != nil {
		m.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, hreq)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "capstan-exec" {
		m.t.Fatalf("answer %+v, %v", resp, err)
	}
	frames := &frameWriter{w: conn}
	for _, body := range []string{input, ""} {
		if err := frames.write(api.StreamStdin, []byte(body)); err != nil {
			m.t.Fatal(err)
		}
		if input == "" {
			break
		}
	}
	streams := map[byte]string{}
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			m.t.Fatalf("after %q: %v", streams, err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(in, body); err != nil {
			m.t.Fatal(err)
		}
		if head[0] == api.StreamExit {
			if err := json.Unmarshal(body, &exit); err != nil {
				m.t.Fatal(err)
			}
			return streams[api.StreamStdout], streams[api.StreamStderr], exit
		}
		streams[head[0]] += string(body)
	}
}

func TestExec(t *testing.T) {
	m := boot(t, api.Config{Args: []string{"app", "stop"}, User: "web", Env: []string{"A=1"}, Workdir: "/srv/private", Network: noNetwork}, setup{})
	m.expect("ready\n")
	if out, _, exit := m.exec(api.ExecRequest{Args: []string{"app", "who"}}, ""); !strings.Contains(out, "uid=33 gid=44 groups=[44 55 66] cwd=/srv/private") || exit.Status != 0 {
		t.Errorf("the application's user: %q, %+v", out, exit)
	}
	if out, errs, exit := m.exec(api.ExecRequest{Args: []string{"app", "order"}, User: "0"}, ""); strings.Count(out, "out ") != 1000 || strings.Count(errs, "err ") != 1000 || exit.Status != 0 {
		t.Errorf("two streams: %d, %d bytes, %+v", len(out), len(errs), exit)
	}
	if out, _, _ := m.exec(api.ExecRequest{Args: []string{"app", "env"}, Env: []string{"B=2"}}, ""); !strings.Contains(out, "\nA=1\nB=2\n") {
		t.Errorf("environment: %q", out)
	}
	text := strings.Repeat("x", 300_000)
	if out, _, exit := m.exec(api.ExecRequest{Args: []string{"app", "cat"}, Stdin: true}, text); out != text || exit.Status != 0 {
		t.Errorf("input: %d bytes, %+v", len(out), exit)
	}
	if _, _, exit := m.exec(api.ExecRequest{Args: []string{"nope"}}, ""); exit.Status != 127 || exit.Reason == "" {
		t.Errorf("missing program: %+v", exit)
	}
	if out, _, exit := m.exec(api.ExecRequest{Args: []string{"app", "ls", "/dev/tty"}, TTY: true, Rows: 10, Cols: 20}, ""); !strings.Contains(out, "\r\n") || exit.Status != 0 {
		t.Errorf("terminal: %q, %+v", out, exit)
	}
	if _, _, exit := m.exec(api.ExecRequest{Args: []string{"app", "segv"}}, ""); exit.Signal != 11 {
		t.Errorf("signal: %+v", exit)
	}
	m.call("POST", "/v1/stop", api.StopRequest{Timeout: -1}, nil)
	if _, exit := m.end(); exit.Status != 7 {
		t.Errorf("ended with %+v", exit)
	}
}

// put sends a tar stream.
func (m *machine) put(path string, stream []byte) (int, string) {
	m.t.Helper()
	// Of unknown length, so that it goes in chunks.
	req, err := http.NewRequest("PUT", "http://guest/v1/files?path="+path, io.MultiReader(bytes.NewReader(stream)))
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := m.api.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestFiles(t *testing.T) {
	m := boot(t, api.Config{Args: []string{"app", "stop"}, Network: noNetwork}, setup{})
	m.expect("ready\n")
	when := time.Unix(1_700_000_000, 0)
	content := func(s string) map[string]string { return map[string]string{"TEST.body": s} }
	big := strings.Repeat("0123456789abcdef", 1<<16)
	stream := tarOf(t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 33, ModTime: when},
		tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 33, Gid: 44, ModTime: when, PAXRecords: content("text")},
		tar.Header{Name: "d/big", Typeflag: tar.TypeReg, Mode: 0o600, ModTime: when, PAXRecords: content(big)},
		tar.Header{Name: "d/s", Typeflag: tar.TypeSymlink, Linkname: "../../../etc/passwd"},
		tar.Header{Name: "d/h", Typeflag: tar.TypeLink, Linkname: "d/f"},
		tar.Header{Name: "d/p", Typeflag: tar.TypeFifo, Mode: 0o640, ModTime: when},
	)
	if code, text := m.put("/srv", stream); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	resp, err := m.api.Get("http://guest/v1/files?path=/srv/d/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := map[string]*tar.Header{}
	for r := tar.NewReader(resp.Body); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h
		if h.Name == "d/big" {
			if b, err := io.ReadAll(r); string(b) != big || err != nil {
				t.Errorf("big: %d bytes, %v", len(b), err)
			}
		}
	}
	if h := got["d/f"]; h == nil || h.Mode != 0o4755 || h.Uid != 33 || h.Gid != 44 || !h.ModTime.Equal(when) || h.Size != 4 {
		t.Errorf("d/f: %+v", h)
	}
	if h := got["d/"]; h == nil || h.Mode != 0o750 || h.Uid != 33 {
		t.Errorf("d/: %+v", h)
	}
	if h := got["d/s"]; h == nil || h.Linkname != "../../../etc/passwd" {
		t.Errorf("d/s: %+v", h)
	}
	if h := got["d/p"]; h == nil || h.Typeflag != tar.TypeFifo || h.Mode != 0o640 {
		t.Errorf("d/p: %+v", h)
	}
	for name, h := range map[string]tar.Header{
		"parent":           {Name: "../evil", Typeflag: tar.TypeReg},
		"through a link":   {Name: "d/out/evil", Typeflag: tar.TypeReg},
		"parent, in links": {Name: "x", Typeflag: tar.TypeLink, Linkname: "../bin/app"},
	} {
		if code, text := m.put("/srv", tarOf(t, tar.Header{Name: "d/out", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, h)); code != 400 || !strings.Contains(text, "error") {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	if out, _, _ := m.exec(api.ExecRequest{Args: []string{"app", "ls", "/evil", "/etc/evil", "/srv/x"}}, ""); strings.Count(out, "missing") != 3 {
		t.Errorf("escaped: %s", out)
	}
	if code, _ := m.put("/no/such", stream); code != 404 {
		t.Errorf("missing directory: %d", code)
	}
	if code, text := m.put("/srv", []byte(strings.Repeat("no tar ", 200))); code != 400 {
		t.Errorf("no tar: %d %s", code, text)
	}
	m.call("POST", "/v1/stop", api.StopRequest{Timeout: -1}, nil)
	m.end()
}
