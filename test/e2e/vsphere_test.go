//go:build e2e

package e2e

import (
	"encoding/json"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// vsphereCapstan is a capstan that may use a server, and an image for it.
func vsphereCapstan(t *testing.T, s *vspheretest.Server) *capstan {
	t.Helper()
	c := newCapstan(t)
	c.env = s.Env()
	c.must(t, "build", "--from", need(t, "redis-server", "redis-server"), "redis")
	return c
}

// redis asks a server that may not be there yet.
func redis(t *testing.T, address string, args ...string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cli := need(t, "redis-cli", "redis-tools")
	for deadline := time.Now().Add(serveBound); ; time.Sleep(time.Second) {
		out, err := exec.CommandContext(t.Context(), cli, append([]string{"-h", host, "-p", port}, args...)...).CombinedOutput()
		if err == nil && !strings.Contains(string(out), "Could not connect") && !strings.Contains(string(out), "Error") && !strings.HasPrefix(string(out), "LOADING") {
			return strings.TrimSpace(string(out))
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis-cli %v: %v: %s", args, err, out)
		}
	}
}

// TestVSphere is the whole life of an instance on an ESXi, with a real client
// of its application.
func TestVSphere(t *testing.T) {
	s := vspheretest.Start(t, vspheretest.Options{Guest: 6379})
	c := vsphereCapstan(t, s)
	r := c.run(t, "run", "--on", "vsphere", "-d", "--name", "db", "--stop-timeout", grace, "-m", "256M", "redis", "--protected-mode", "no")
	if r.status != 0 || r.stdout != "db\n" || !strings.Contains(r.stderr, "db has the address 10.0.2.15") {
		t.Fatalf("run: %+v\n%s", r, tail(c.run(t, "logs", "--kernel", "db").stdout))
	}
	if got := redis(t, s.Dial(), "set", "kept", "yes"); got != "OK" {
		t.Errorf("set: %q", got)
	}
	if got := c.must(t, "ps", "--format", "{{.Name}} {{.Platform}} {{.Status}} {{.Address}}"); got != "db vsphere running 10.0.2.15\n" {
		t.Errorf("ps: %q", got)
	}
	log := c.must(t, "logs", "db")
	if !strings.Contains(log, "Ready to accept connections") || strings.Contains(log, "capstan-") {
		t.Errorf("logs: %q", log)
	}
	follow := c.command(t.Context(), "logs", "-f", "--tail", "1", "db")
	followed := start(t, follow)
	c.must(t, "stop", "db")
	if out := followed(); !strings.Contains(out.stdout, "Redis is now ready to exit, bye bye") || strings.Count(out.stdout, "Ready to accept") > 1 {
		t.Errorf("logs -f: %+v", out)
	}
	if status, exit := vsphereState(t, c, "db"); status != "exited" || exit != 0 {
		t.Errorf("after stop: %s, %d", status, exit)
	}
	if got := c.run(t, "wait", "db"); got.stdout != "0\n" {
		t.Errorf("wait: %+v", got)
	}
	c.must(t, "start", "db")
	if got := redis(t, s.Dial(), "get", "kept"); got != "yes" {
		t.Errorf("after stop and start: %q", got)
	}
	if log := c.must(t, "logs", "db"); strings.Count(log, "Ready to accept connections") != 2 || strings.Contains(log, "capstan-") {
		t.Errorf("logs of both runs: %q", log)
	}
	c.must(t, "kill", "db")
	if status, exit := vsphereState(t, c, "db"); status != "exited" || exit != 137 {
		t.Errorf("after kill: %s, %d", status, exit)
	}
	c.must(t, "rm", "db")
	if left := s.Left(t.Context()); len(left) > 0 {
		t.Errorf("left on the server: %q", left)
	}
}

// vsphereState is an instance's state as inspect shows it.
func vsphereState(t *testing.T, c *capstan, name string) (status string, exit int) {
	t.Helper()
	var seen []struct {
		State struct {
			Status string
			Exit   struct{ Status int }
		}
	}
	if err := json.Unmarshal([]byte(c.must(t, "inspect", name)), &seen); err != nil || len(seen) != 1 {
		t.Fatalf("inspect %s: %v", name, err)
	}
	return seen[0].State.Status, seen[0].State.Exit.Status
}

// start starts a command; what it returns waits for its end.
func start(t *testing.T, cmd *exec.Cmd) func() result {
	t.Helper()
	ended := make(chan result, 1)
	var failed error
	go func() {
		r, err := end(cmd)
		failed = err
		ended <- r
	}()
	return func() result {
		t.Helper()
		r := <-ended
		if failed != nil {
			t.Fatal(failed)
		}
		return r
	}
}
