//go:build linux && e2e

package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"capstan/guest/api"
)

// A lease is renewed while the server gives it, given up when it has run out
// or the server refuses it, and replaced by what the server gives next.
func TestLease(t *testing.T) {
	first, second, third := net.IPv4(192, 0, 2, 10), net.IPv4(192, 0, 2, 20), net.IPv4(192, 0, 2, 30)
	const short = 8 * time.Second
	server := newDHCPServer(t, policy{address: first, lease: short})
	m := boot(t, api.Config{Args: []string{"app", "stop"}, Hostname: "leased"}, setup{netdev: "socket,connect=" + server.address})
	m.expect("ready\n")
	has := func(want string) func() bool {
		return func() bool {
			out, _, _ := m.exec(api.ExecRequest{Args: []string{"app", "addr"}}, "")
			_, after, _ := strings.Cut(out, "eth0")
			return strings.TrimSpace(strings.TrimPrefix(after, " true ")) == want
		}
	}
	if !has("192.0.2.10/24")() {
		t.Error("the machine has not the address of its lease")
	}
	for range 2 {
		server.await(t, "renewal", renewal(first))
	}
	server.set(policy{silent: true})
	server.await(t, "search after the lease's end", discover)
	m.await(has(""))
	server.set(policy{address: second, lease: short})
	m.await(has("192.0.2.20/24"))
	if out, _, _ := m.exec(api.ExecRequest{Args: []string{"app", "cat", "/etc/resolv.conf"}}, ""); out != "nameserver 192.0.2.1\n" {
		t.Errorf("resolv.conf: %q", out)
	}
	server.await(t, "renewal", renewal(second))
	server.set(policy{refuse: true, address: second, lease: short})
	server.await(t, "renewal that is refused", renewal(second))
	server.await(t, "search after the refusal", discover)
	m.await(has(""))
	server.set(policy{address: third, lease: time.Hour})
	m.await(has("192.0.2.30/24"))
	m.call("POST", "/v1/stop", api.StopRequest{Timeout: -1}, nil)
	if _, exit := m.end(); exit != (api.Exit{Status: 7}) {
		t.Errorf("ended with %+v", exit)
	}
}

// A network without an answer is told, and the application starts.
func TestNoLease(t *testing.T) {
	server := newDHCPServer(t, policy{silent: true})
	m := boot(t, api.Config{Args: []string{"app", "addr"}}, setup{netdev: "socket,connect=" + server.address})
	out, exit := m.end()
	if exit != (api.Exit{}) || strings.Contains(out, "eth0") || !strings.Contains(m.kernelLog(), "asking DHCP for an address") {
		t.Errorf("%+v; %s", exit, out)
	}
}
