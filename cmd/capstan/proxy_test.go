package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"capstan/internal/repo/registrytest"
)

// TestProxy reaches a registry that is not on this machine through a proxy:
// the name does not resolve, its certificate is of a CA that only config.yaml
// names, and it wants a password.
func TestProxy(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{TLS: true, Auth: true})
	proxy := newTunnel(t, registrytest.Name+":443", reg.Host)
	w := newWorld(t)
	w.env = append(w.env, "CAPSTAN_OFFLINE=false", "HTTPS_PROXY="+proxy.url, "DOCKER_CONFIG="+w.dir)
	w.write("tree/motd", "hello")
	w.must("build", "--from", "tree", "app")
	if r := w.capstan("push", "app", registrytest.Name+"/app"); r.status == 0 || !strings.Contains(r.stderr, "has a certificate that is not trusted") {
		t.Errorf("push without the CA: %s", r.stderr)
	}
	w.write("root/config.yaml", fmt.Sprintf("registries:\n- host: %s\n  ca: %s\n", registrytest.Name, reg.CAFile))
	login := w.command("login", "-u", registrytest.User, "--password-stdin", registrytest.Name)
	login.Stdin = strings.NewReader(registrytest.Password)
	if r := w.run(login); r.status != 0 {
		t.Fatal(r.stderr)
	}
	pushed := w.must("push", "app", registrytest.Name+"/app")
	w.must("rmi", "app")
	if pulled := w.must("pull", "app"); pulled != pushed {
		t.Errorf("pushed %s, pulled %s", pushed, pulled)
	}
	if n := proxy.count(); n < 4 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

// tunnel is a proxy that connects to one place: RFC 9110, section 9.3.6.
type tunnel struct {
	url string

	mu    sync.Mutex
	asked int
}

func newTunnel(t *testing.T, name, to string) *tunnel {
	p := &tunnel{}
	var open sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != name {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		p.mu.Lock()
		p.asked++
		p.mu.Unlock()
		there, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			there.Close()
			return
		}
		open.Go(func() { io.Copy(there, here); there.Close() })
		open.Go(func() { io.Copy(here, there); here.Close() })
	}))
	t.Cleanup(func() { server.Close(); open.Wait() })
	p.url = server.URL
	return p
}

func (p *tunnel) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}
