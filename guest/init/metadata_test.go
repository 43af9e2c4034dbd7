//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

var (
	onEC2 = cloud{name: "EC2", userData: "/data", token: "/token"}
	onGCE = cloud{name: "GCE", userData: "/data", flavor: "Google"}
)

// serve answers each connection's one request; answer gets what was asked.
func serve(t *testing.T, answer func(r *http.Request, out net.Conn)) func(time.Time) (connection, error) {
	var served sync.WaitGroup
	t.Cleanup(served.Wait)
	return func(time.Time) (connection, error) {
		here, there := net.Pipe()
		served.Go(func() {
			defer there.Close()
			r, err := http.ReadRequest(bufio.NewReader(there))
			if err == nil { // else who asks has given up
				answer(r, there)
			}
		})
		return here, nil
	}
}

func say(text string) func(*http.Request, net.Conn) {
	return func(_ *http.Request, out net.Conn) { _, _ = io.WriteString(out, text) } // who asks may have gone
}

// Every answer has its end within the bound, on a clock of the test's own;
// what cannot change is not asked for again.
func TestMetadata(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\n"
	var asked atomic.Int32
	for name, c := range map[string]struct {
		cloud  cloud
		answer func(*http.Request, net.Conn)
		doc    string
		err    string // "" for none
		waits  bool   // asks again and again
	}{
		"sized":     {cloud: onGCE, answer: say(ok + "Content-Length: 2\r\n\r\n{}"), doc: "{}"},
		"unsized":   {cloud: onGCE, answer: say(ok + "\r\n{}"), doc: "{}"},
		"in chunks": {cloud: onGCE, answer: say(ok + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), doc: "{}"},
		"none":      {cloud: onGCE, answer: say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), err: "there is none"},
		"asked rightly": {cloud: onGCE, doc: "GET /data Google close", answer: func(r *http.Request, out net.Conn) {
			say(ok+"\r\n"+r.Method+" "+r.URL.Path+" "+r.Header.Get("Metadata-Flavor")+" close")(r, out)
		}},
		"with a token": {cloud: onEC2, doc: "the data", answer: func(r *http.Request, out net.Conn) {
			switch {
			case r.Method == "PUT" && r.URL.Path == "/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "60":
				say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nT==4")(r, out)
			case r.Method == "GET" && r.URL.Path == "/data" && r.Header.Get("X-aws-ec2-metadata-token") == "T==4":
				say("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nthe data")(r, out)
			default:
				t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
			}
		}},
		"a token of two lines": {cloud: onEC2, answer: say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na\r\nb"), err: "token"},
		"no token":             {cloud: onEC2, answer: say("HTTP/1.1 403 Forbidden\r\n\r\n"), err: "answers 403"},
		"a redirection":        {cloud: onGCE, answer: say("HTTP/1.1 302 Found\r\nLocation: http://198.51.100.1/\r\n\r\n"), err: "answers 302"},
		"somebody else":        {cloud: onGCE, answer: say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), err: "is not the cloud's"},
		"no HTTP":              {cloud: onGCE, answer: say("SSH-2.0-OpenSSH_9.2\r\n"), err: "is not HTTP"},
		"a bad length":         {cloud: onGCE, answer: say(ok + "Content-Length: -1\r\n\r\n"), err: "is not a number"},
		"huge": {cloud: onGCE, err: "longer than", answer: func(_ *http.Request, out net.Conn) {
			say(ok+"\r\n")(nil, out)
			for b := make([]byte, 1<<16); ; {
				if _, err := out.Write(b); err != nil {
					return
				}
			}
		}},
		"busy at first": {cloud: onGCE, doc: "late", answer: func(r *http.Request, out net.Conn) {
			if asked.Load() < 5 {
				say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")(r, out)
				return
			}
			say(ok+"\r\nlate")(r, out)
		}},
		"broken":      {cloud: onGCE, answer: say("HTTP/1.1 500 Internal Server Error\r\n\r\n"), err: "answers 500", waits: true},
		"cut":         {cloud: onGCE, answer: say(ok + "Content-Length: 9\r\n\r\n{"), err: "unexpected EOF", waits: true},
		"silent":      {cloud: onGCE, answer: func(r *http.Request, out net.Conn) { _, _ = out.Read(make([]byte, 1)) }, err: "timeout", waits: true},
		"without end": {cloud: onGCE, answer: say(ok + strings.Repeat("X-A: "+strings.Repeat("x", 1000)+"\r\n", 100)), err: "EOF", waits: true},
		"by drops": {cloud: onGCE, err: "timeout", waits: true, answer: func(r *http.Request, out net.Conn) {
			say(ok+"\r\n")(r, out)
			for {
				if _, err := io.WriteString(out, "x"); err != nil {
					return
				}
				time.Sleep(time.Second) // of the test's own clock
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), metadataWait)
				defer cancel()
				m := &metadata{cloud: c.cloud, dial: serve(t, func(r *http.Request, out net.Conn) { asked.Add(1); c.answer(r, out) })}
				began := time.Now()
				doc, err := m.get(ctx, c.cloud.userData)
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, not %q", err, c.err)
				}
				if err == nil && string(doc) != c.doc {
					t.Errorf("%.100q", doc)
				}
				if name == "none" && !errors.Is(err, errNoMetadata) {
					t.Error("not taken for what it is")
				}
				if took := time.Since(began); took > metadataWait || c.waits && took < metadataWait-metadataTry {
					t.Errorf("took %s", took)
				}
				if more := asked.Load() > 2; more != (c.waits || name == "busy at first") {
					t.Errorf("asked %d times", asked.Load())
				}
			})
		})
	}
}

// A machine without a way to the server does not try again, one whose server
// is not there yet does.
func TestMetadataUnreachable(t *testing.T) {
	for errno, again := range map[unix.Errno]bool{unix.ENETUNREACH: false, unix.ECONNREFUSED: true, unix.EHOSTUNREACH: true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), metadataWait)
			defer cancel()
			tried := 0
			m := &metadata{cloud: onGCE, dial: func(time.Time) (connection, error) { tried++; return nil, os.NewSyscallError("connect", errno) }}
			if _, err := m.get(ctx, "/data"); !errors.Is(err, errno) || tried > 1 != again {
				t.Errorf("%v: tried %d times: %v", errno, tried, err)
			}
		})
	}
}

func TestFindCloud(t *testing.T) {
	for name, c := range map[string]struct {
		id   map[string]string
		want string
	}{
		"Nitro":          {map[string]string{"sys_vendor": "Amazon EC2", "product_name": "m7i.large"}, "EC2"},
		"EC2's Xen":      {map[string]string{"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.11.amazon"}, "EC2"},
		"Compute Engine": {map[string]string{"sys_vendor": "Google", "product_name": "Google Compute Engine"}, "GCE"},
		"other Xen":      {map[string]string{"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.17.0"}, ""},
		"Chromebook":     {map[string]string{"sys_vendor": "Google", "product_name": "Eve"}, ""},
		"QEMU":           {map[string]string{"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"}, ""},
		"no DMI":         {nil, ""},
	} {
		dir := t.TempDir()
		for file, text := range c.id {
			if err := os.WriteFile(dir+"/"+file, []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, ok := findCloud(dir); got.name != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got.name, ok)
		}
	}
}

// onDisk is a config that a disk carries.
var onDisk = api.Config{
	Version: 1, Args: []string{"serve", "-a"}, Env: []string{"A=disk", "B=disk"}, Workdir: "/srv", TTY: true, Console: "/dev/ttyS0",
	Root:    api.Root{Lower: []string{"partlabel:capstan-root"}, Upper: "partlabel:capstan-data"},
	Network: api.Network{Nameservers: []string{"192.0.2.1"}, Hosts: map[string]string{"db": "192.0.2.2"}},
	Mounts:  []api.Mount{{Type: "tmpfs", Target: "/scratch"}},
	Sysctls: map[string]string{"vm.swappiness": "2"}, Time: 1_764_000_000_123_456_789,
}

func TestOverride(t *testing.T) {
	for doc, change := range map[string]func(*api.Config){
		`{"version":1}`:                    func(*api.Config) {},
		`{"version":1,"unknown":{"a":[]}}`: func(*api.Config) {},
		`{"version":1,"args":["x"],"env":["B=cloud"],"hostname":"h","tty":false}`: func(c *api.Config) {
			c.Args, c.Env, c.Hostname, c.TTY = []string{"x"}, []string{"A=disk", "B=disk", "B=cloud"}, "h", false
		},
		`{"version":1,"env":null,"workdir":null,"network":null,"mounts":[]}`: func(c *api.Config) {
			c.Env, c.Workdir, c.Network, c.Mounts = nil, "", api.Network{}, nil
		},
		`{"version":1,"sysctls":{"a.b":"1"},"network":{"hosts":{"web":"192.0.2.3"},"search":["lan"]}}`: func(c *api.Config) {
			c.Sysctls = map[string]string{"vm.swappiness": "2", "a.b": "1"}
			c.Network.Hosts, c.Network.Search = map[string]string{"db": "192.0.2.2", "web": "192.0.2.3"}, []string{"lan"}
		},
		`{"version":1,"root":{"lower":["/dev/sdz"],"read_only":true},"Root":{"upper":""},"console":"","control":"/dev/ttyS3","network":{"none":true,"Address":"192.0.2.9/24","gateway":"192.0.2.254"}}`: func(*api.Config) {},
	} {
		want := onDisk
		change(&want)
		if got, err := override(onDisk, []byte(doc)); err != nil || !sameConfig(got, want) {
			t.Errorf("%s: %+v, %v", doc, got, err)
		}
	}
	for doc, want := range map[string]string{
		"":                                    "EOF",
		"#cloud-config\n":                     "invalid character",
		"null":                                "not one JSON object",
		`[]`:                                  "cannot unmarshal array",
		`{}`:                                  "it has no version",
		`{"version":1}{}`:                     "not one JSON object",
		`{"version":2}`:                       "has version 2",
		`{"version":1,"args":[]}`:             "names no program",
		`{"version":1,"args":null}`:           "names no program",
		`{"version":1,"env":"A=b"}`:           "is not valid",
		`{"version":1,"stop_signal":"NOPE"}`:  "NOPE",
		`{"version":1,"user":"a\u0000b"}`:     "zero byte",
		`{"version":1,"network":"x"}`:         "is not valid",
		strings.Repeat(`{"version":`, 20_000): "exceeded max depth",
	} {
		if got, err := override(onDisk, []byte(doc)); err == nil || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(got, onDisk) {
			t.Errorf("%.40q: %v", doc, err)
		}
	}
}

// sameConfig takes a list without entries for none.
func sameConfig(a, b api.Config) bool {
	for _, c := range []*api.Config{&a, &b} {
		if len(c.Mounts) == 0 {
			c.Mounts = nil
		}
	}
	return reflect.DeepEqual(a, b)
}

func FuzzOverride(f *testing.F) {
	f.Add([]byte(`{"version":1,"ROOT":{"lower":["x"]},"network":{"None":true},"env":["A=b"]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := override(onDisk, doc)
		if err != nil {
			return
		}
		if !reflect.DeepEqual(got.Root, onDisk.Root) || got.Network.None || len(got.Args) == 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestGivenName(t *testing.T) {
	long := strings.Repeat("x", 60)
	for name, want := range map[string]string{
		"ip-10-0-0-1.ec2.internal\n": "ip-10-0-0-1.ec2.internal", "web.c.p.internal": "web.c.p.internal", "": "", "a b": "", "<html>": "",
		long + ".c.project.internal": long, long + long: "",
	} {
		if got := givenName(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}
