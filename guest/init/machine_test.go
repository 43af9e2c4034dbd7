//go:build linux && e2e

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capstan/guest/api"
)

// The power button is most clouds' and hypervisors' soft stop, an NMI that of
// vSphere, where it is asked for.
func TestAskedToStop(t *testing.T) {
	for name, tt := range map[string]struct{ kind, command string }{
		"q35":     {"q35", "system_powerdown"},
		"microvm": {"microvm,acpi=on,rtc=on", "system_powerdown"},
		"NMI":     {"q35", "inject-nmi"},
	} {
		t.Run(name, func(t *testing.T) {
			qmp := filepath.Join(t.TempDir(), "qmp")
			m := boot(t, api.Config{Args: []string{"app", "stop"}, Network: noNetwork, StopByNMI: name == "NMI"},
				setup{machine: tt.kind, args: []string{"-qmp", "unix:" + qmp + ",server=on,wait=off"}})
			m.expect("ready\n")
			conn, err := net.Dial("unix", qmp)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, `{"execute":"qmp_capabilities"}{"execute":%q}`+"\n", tt.command); err != nil {
				t.Fatal(err)
			}
			if out, exit := m.end(); exit != (api.Exit{Status: 7}) || !strings.Contains(out, "got terminated") {
				t.Errorf("%+v; %s", exit, out)
			}
		})
	}
}

// A SIGTERM to PID 1, as reboot-like tools of the image send it, is a stop. So
// is the kernel's own command for an orderly end, which Xen's toolstack starts.
func TestSignalToInit(t *testing.T) {
	for _, act := range []string{"term", "poweroff"} {
		out, exit := boot(t, api.Config{Args: []string{"app", act}, Network: noNetwork}, setup{}).end()
		if exit != (api.Exit{Status: 7}) || !strings.Contains(out, "got terminated") {
			t.Errorf("%s: %+v; %s", act, exit, out)
		}
	}
}

// A host that goes away takes its exec with it and nothing else, and finds
// the API again when it is back, also after it has sent nonsense.
func TestHostComesBack(t *testing.T) {
	m := boot(t, api.Config{Args: []string{"app", "stop"}, Network: noNetwork}, setup{})
	m.expect("ready\n")
	for i := range 3 {
		conn, err := m.session.Open()
		if err != nil {
			t.Fatal(err)
		}
		doc := `{"args":["app","stop"]}`
		if _, err := fmt.Fprintf(conn, "POST /v1/exec HTTP/1.1\r\nHost: guest\r\nContent-Length: %d\r\n\r\n%s", len(doc), doc); err != nil {
			t.Fatal(err)
		}
		// Its first words: it waits for signals now.
		for text := ""; !strings.Contains(text, "ready"); {
			b := make([]byte, 100)
			n, err := conn.Read(b)
			if err != nil {
				t.Fatalf("after %q: %v", text, err)
			}
			text += string(b[:n])
		}
		m.session.Close()
		if i == 1 {
			nonsense := m.accept()
			if _, err := nonsense.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			nonsense.Close()
		}
		m.connect()
		// The program that the host left ends by a hangup, with status 7; what
		// is left is the application.
		m.await(func() bool {
			var stats api.Stats
			m.call("GET", "/v1/stats", nil, &stats)
			return stats.Processes == 1
		})
	}
	var s api.Status
	if m.call("GET", "/v1/status", nil, &s); s.State != "running" {
		t.Errorf("status: %+v", s)
	}
	m.call("POST", "/v1/stop", api.StopRequest{Timeout: -1}, nil)
	if _, exit := m.end(); exit != (api.Exit{Status: 7}) {
		t.Errorf("ended with %+v", exit)
	}
}

// await asks until the answer is yes; a machine has bootLimit for it.
func (m *machine) await(yes func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(bootLimit); !yes(); {
		if time.Now().After(deadline) {
			m.t.Fatal("what was waited for did not come")
		}
	}
}

// The clock is the host's. The clock device alone counts whole seconds, from a
// whole second on; the config's time is a floor that counts from the boot.
func TestClock(t *testing.T) {
	for name, known := range map[string]bool{"clock device": false, "config's time": true} {
		t.Run(name, func(t *testing.T) {
			cfg := api.Config{Args: []string{"app", "stop"}, Network: noNetwork}
			if known {
				cfg.Time = time.Now().UnixNano()
			}
			m := boot(t, cfg, setup{})
			m.expect("ready\n")
			before := time.Now()
			out, _, _ := m.exec(api.ExecRequest{Args: []string{"app", "time"}}, "")
			after := time.Now()
			var now, up int64
			if _, err := fmt.Sscan(out, &now, &up); err != nil {
				t.Fatal(err)
			}
			guest := time.UnixMicro(now)
			if guest.Before(before.Add(-2500*time.Millisecond)) || guest.After(after.Add(50*time.Millisecond)) {
				t.Errorf("the guest's clock says %s, which is not between %s and %s", guest, before, after)
			}
			const rounding = time.Millisecond
			if booted := time.UnixMicro(now - up); known && booted.Before(time.Unix(0, cfg.Time).Add(-rounding)) {
				t.Errorf("by its clock the guest was booted at %s, before the config was written at %d", booted, cfg.Time)
			}
			t.Logf("between %s behind and %s ahead", after.Sub(guest), guest.Sub(before))
			m.call("POST", "/v1/stop", api.StopRequest{Timeout: -1}, nil)
			m.end()
		})
	}
}

// A process that the kernel kills for want of memory is told only where it
// was the application.
func TestMemoryVictim(t *testing.T) {
	out, exit := boot(t, api.Config{Args: []string{"app", "victim"}, Network: noNetwork}, setup{memory: "96M"}).end()
	if exit != (api.Exit{Status: 137, Signal: 9}) || out != "child: signal: killed\n" {
		t.Errorf("%+v; %s", exit, out)
	}
}

// An image with nothing but one program has no accounts, no /etc, no /tmp.
func TestBareImage(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  api.Config
		out  string
		want api.Exit
	}{
		"root":    {cfg: api.Config{Args: []string{"app", "who"}}, out: "uid=0 gid=0 groups=[0] cwd=/ host=capstan ppid=1 pgrp=true\n"},
		"numbers": {cfg: api.Config{Args: []string{"app", "who"}, User: "1000:1000", Workdir: "/home/me"}, out: "uid=1000 gid=1000 groups=[1000] cwd=/home/me host=capstan ppid=1 pgrp=true\n"},
		"number":  {cfg: api.Config{Args: []string{"app", "who"}, User: "1000"}, out: "uid=1000 gid=0 groups=[0] cwd=/ host=capstan ppid=1 pgrp=true\n"},
		"a user's name": {cfg: api.Config{Args: []string{"app", "who"}, User: "web"},
			want: api.Exit{Status: 126, Reason: `the image has no user "web"`}},
		"a group's name": {cfg: api.Config{Args: []string{"app", "who"}, User: "0:web"},
			want: api.Exit{Status: 126, Reason: `the image has no group "web"`}},
		"read-only": {cfg: api.Config{Args: []string{"app", "cat", "/etc/hostname"}, Hostname: "h", Root: api.Root{ReadOnly: true}}, out: "h\n"},
		"temporary files": {cfg: api.Config{Args: []string{"app", "ls", "/tmp", "/run", "/dev/shm"}, Root: api.Root{ReadOnly: true}},
			out: "/tmp dtrwxrwxrwx 0 0\n/run drwxr-xr-x 0 0\n/dev/shm dtrwxrwxrwx 0 0\n"},
		"working directory that is a file": {cfg: api.Config{Args: []string{"app", "who"}, Workdir: "/bin/app"},
			want: api.Exit{Status: 125, Reason: "making the directory /bin/app: not a directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Network = noNetwork
			if out, exit := boot(t, c.cfg, setup{bare: true}).end(); out != c.out || exit != c.want {
				t.Errorf("%q, %+v", out, exit)
			}
		})
	}
}

// The kernel knows every call and socket that servers make, but for these,
// which a container engine's default profile keeps from programs as well, or
// for which every program has another way.
func TestKernelLacks(t *testing.T) {
	want := []string{
		// One processor node: libnuma asks and does without.
		"call mbind", "call get_mempolicy", "call set_mempolicy", "call move_pages",
		// Protection and isolation between tenants that are not there.
		"call pkey_alloc", "call memfd_secret", "call landlock_create_ruleset", "call bpf",
		"call quotactl", "call modify_ldt", "call kexec_load", "call init_module",
		// Go and curl fall back to TCP; OpenSSL to its own ciphers.
		"socket sctp", "socket mptcp", "socket alg",
		// No packet filter: the machine's outside is the hypervisor's.
		"socket netfilter",
		"end",
	}
	out, exit := boot(t, api.Config{Args: []string{"app", "lack"}, Network: noNetwork}, setup{}).end()
	if got := strings.Split(strings.TrimSpace(out), "\n"); exit != (api.Exit{}) || !slices.Equal(got, want) {
		t.Errorf("%+v; the kernel lacks\n%s", exit, out)
	}
}

// No control group is mounted: all of the machine is the application's, and
// the JVM, Node, Go and .NET then take the machine's size for their limit.
// An application that wants control groups can mount them.
func TestControlGroups(t *testing.T) {
	out, exit := boot(t, api.Config{Args: []string{"app", "cgroup"}, Network: noNetwork}, setup{}).end()
	if exit != (api.Exit{}) || !strings.HasPrefix(out, "before 0\ncontrollers cpuset cpu ") || !strings.Contains(out, " memory ") || !strings.Contains(out, " pids") {
		t.Errorf("%+v; %s", exit, out)
	}
}

// The config's other forms reach PID 1 as well: one that needs encoding/json,
// and one so large that it stands for all.
func TestLargeConfig(t *testing.T) {
	cfg := api.Config{Args: []string{"app", "env"}, Network: noNetwork}
	for i := range 2000 {
		cfg.Env = append(cfg.Env, fmt.Sprintf("V%d=\u20ac%s", i, strings.Repeat("x", 900)))
	}
	out, exit := boot(t, cfg, setup{memory: "256M"}).end()
	if exit != (api.Exit{}) || !strings.Contains(out, "\n"+cfg.Env[1999]+"\n") {
		doc, _ := json.Marshal(cfg) // a struct that always marshals
		t.Errorf("%+v; %d bytes of output for %d of config", exit, len(out), len(doc))
	}
}

// Debian's virtiofsd shares a directory.
func TestVirtiofs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one"), []byte("first"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args  []string
		mount api.Mount
		out   string
		want  api.Exit
	}{
		"write":     {args: []string{"app", "put", "/data/two", "second"}, mount: api.Mount{Type: "virtiofs", Source: "s0", Target: "/data"}},
		"read":      {args: []string{"app", "cat", "/data/one"}, mount: api.Mount{Type: "virtiofs", Source: "s0", Target: "/data"}, out: "first"},
		"file":      {args: []string{"app", "cat", "/etc/one.conf"}, mount: api.Mount{Type: "virtiofs", Source: "s0", Target: "/etc/one.conf", File: "one"}, out: "first"},
		"read-only": {args: []string{"app", "put", "/data/three", "x"}, mount: api.Mount{Type: "virtiofs", Source: "s0", Target: "/data", ReadOnly: true}, out: "error: open /data/three: read-only file system\n", want: api.Exit{Status: 98}},
	} {
		t.Run(name, func(t *testing.T) {
			args := startVirtiofsd(t, dir)
			if out, exit := boot(t, api.Config{Args: c.args, Network: noNetwork, Mounts: []api.Mount{c.mount}}, setup{args: args}).end(); out != c.out || exit != c.want {
				t.Errorf("%q, %+v", out, exit)
			}
		})
	}
	if got, err := os.ReadFile(filepath.Join(dir, "two")); string(got) != "second" {
		t.Errorf("written: %q, %v", got, err)
	}
}
