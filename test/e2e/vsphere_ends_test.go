//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"

	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// TestVSphereEnds: in the foreground, run ends with the application's status and
// --rm leaves nothing, without a network too; restart is a second run.
func TestVSphereEnds(t *testing.T) {
	s := vspheretest.Start(t, vspheretest.Options{Guest: 80})
	c := newProbe(t)
	c.env = s.Env()
	r := c.run(t, "run", "--on", "vsphere", "--rm", "-m", "256M", "--network", "none", probe, "/probe", "exit", "7")
	if r.status != 7 || r.stdout != "exit 7\n" {
		t.Errorf("run --rm: %+v", r)
	}
	if left := append(s.Left(t.Context()), c.must(t, "ps", "-a", "-q")); len(left) != 1 || left[0] != "" {
		t.Errorf("after --rm: %q", left)
	}

	c.ready(t, "again", []string{"--on", "vsphere", "--stop-timeout", grace, "-m", "256M"})
	c.must(t, "restart", "again")
	c.waitReady(t, "again", 2)
	if status, _ := vsphereState(t, c, "again"); status != "running" {
		t.Errorf("after restart: %s", status)
	}
	c.must(t, "rm", "-f", "again")
	if left := s.Left(t.Context()); len(left) > 0 {
		t.Errorf("left on the server: %q", left)
	}
}

// TestVSphereGone: of a server that does not answer, or is gone, ps says why it
// knows nothing; rm -f forgets what is there, and says so. The machine boots
// nothing.
func TestVSphereGone(t *testing.T) {
	s := vspheretest.Start(t, vspheretest.Options{Tools: "192.0.2.7"})
	c := newProbe(t)
	there := s.Env()
	c.env = there
	for _, name := range []string{"one", "two"} {
		c.must(t, "run", "-d", "--on", "vsphere", "--name", name, probe)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, conn) // until the client has had enough
		}
	}()
	for _, address := range []string{"127.0.0.1:1", silent.Addr().String()} {
		c.env = append(there[:len(there):len(there)], "GOVC_URL=https://"+address+"/sdk")
		r := c.run(t, "ps", "--format", "{{.Name}} {{.Status}} {{.Reason}}")
		for _, name := range []string{"one", "two"} {
			if !strings.Contains(r.stdout, name+" unknown "+name+": vsphere: 127.0.0.1 does not answer") {
				t.Errorf("ps without %s: %+v", address, r)
			}
		}
	}
	c.env = append(there[:len(there):len(there)], "GOVC_URL=https://127.0.0.1:1/sdk")
	if r := c.run(t, "rm", "one"); r.status == 0 || !strings.Contains(r.stderr, "does not answer") {
		t.Errorf("rm: %+v", r)
	}
	var seen []struct{ ID string }
	if err := json.Unmarshal([]byte(c.must(t, "ps", "-a", "--format", "json")), &seen); err != nil || len(seen) != 2 {
		t.Fatalf("ps: %+v, %v", seen, err)
	}
	r := c.run(t, "rm", "-f", "one", "two")
	if r.status != 0 || r.stdout != "one\ntwo\n" || strings.Count(r.stderr, "\n") != 2 || strings.Contains(r.stderr, vspheretest.Password) {
		t.Errorf("rm -f: %+v", r)
	}
	left := strings.Join(s.Left(t.Context()), "\n")
	for _, i := range seen {
		if !strings.Contains(r.stderr, "may be left on vsphere, as what has "+i.ID+" in its name") || !strings.Contains(left, i.ID) {
			t.Errorf("rm -f says %q; left is %s", r.stderr, left)
		}
	}
	if got := c.must(t, "ps", "-a", "-q"); got != "" {
		t.Errorf("left here: %q", got)
	}
}
