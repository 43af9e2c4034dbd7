//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestPersistence: what an instance wrote is there when it starts again, and
// gone with it.
func TestPersistence(t *testing.T) {
	c := newProbe(t)
	c.ready(t, "keeps", nil, "/times-started")
	c.must(t, "stop", "-t", grace, "keeps")
	if s, _ := c.ps(t, "keeps", "-a"); s.Status != "exited" || s.ExitCode != 0 {
		t.Errorf("stopped, it is %+v", s)
	}
	c.must(t, "start", "keeps")
	c.waitReady(t, "keeps", 2)
	c.must(t, "restart", "-t", grace, "keeps")
	c.waitReady(t, "keeps", 3)
	c.must(t, "stop", "-t", grace, "keeps")
	log := c.must(t, "logs", "keeps")
	for n := 1; n <= 3; n++ {
		if want := "times started: " + strconv.Itoa(n) + "\n"; !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	c.must(t, "rm", "keeps")
	c.ready(t, "keeps", nil, "/times-started")
	if log := c.must(t, "logs", "keeps"); !strings.Contains(log, "times started: 1\n") {
		t.Errorf("a new instance by the old name has the old one's data:\n%s", log)
	}
	c.must(t, "rm", "-f", "keeps")
	c.checkNothingLeft(t)
}

// TestShares: directories and files of the host, writable and not.
func TestShares(t *testing.T) {
	c := newProbe(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "from-host")
	if err := os.WriteFile(file, []byte("ahoy\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, share string
		args        []string
		status      int
		says        string
	}{
		{"read", dir + ":/mnt/share:ro", []string{"/probe", "read", "/mnt/share/from-host"}, 0, "ahoy\n"},
		{"write", dir + ":/mnt/share", []string{"/probe", "write", "/mnt/share/from-guest", "aye"}, 0, "written\n"},
		{"write to a read-only one", dir + ":/mnt/share:ro", []string{"/probe", "write", "/mnt/share/never", "nay"}, 3, "read-only file system"},
		{"file", file + ":/etc/one:ro", []string{"/probe", "read", "/etc/one"}, 0, "ahoy\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := c.run(t, append([]string{"run", "--rm", "-v", tt.share, probe}, tt.args...)...)
			if r.status != tt.status || !strings.Contains(r.stdout, tt.says) {
				t.Errorf("status %d, want %d and %q\nstdout: %s\nstderr: %s", r.status, tt.status, tt.says, r.stdout, r.stderr)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(dir, "from-guest")); err != nil || string(text) != "aye" {
		t.Errorf("the host sees %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "never")); err == nil {
		t.Error("the guest wrote to a read-only share")
	}
}

// TestFlags: environment, working directory, user, host name.
func TestFlags(t *testing.T) {
	c := newProbe(t)
	envFile := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(envFile, []byte("# comment\nFROM_FILE=file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := c.must(t, "run", "--rm", "-e", "CHANGED=after all", "-e", "NEW=x=y", "--env-file", envFile, probe, "/probe", "env")
	lines := strings.Split(env, "\n")
	for _, want := range []string{"FROM_IMAGE=kept", "CHANGED=after all", "NEW=x=y", "FROM_FILE=file"} {
		if !slices.Contains(lines, want) {
			t.Errorf("the environment has no %q:\n%s", want, env)
		}
	}
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--name", "flagship"}, "dir / uid 0 gid 0 host flagship\n"},
		{[]string{"-w", "/some/where", "--hostname", "brig"}, "dir /some/where uid 0 gid 0 host brig\n"},
		{[]string{"-u", "mate", "--hostname", "brig"}, "dir / uid 1000 gid 1001 host brig\n"},
		{[]string{"-u", "mate:crew", "--hostname", "brig"}, "dir / uid 1000 gid 1002 host brig\n"},
		{[]string{"-u", "7:8", "--hostname", "brig"}, "dir / uid 7 gid 8 host brig\n"},
	} {
		line := append(append([]string{"run", "--rm"}, tt.flags...), probe, "/probe", "where")
		if got := c.must(t, line...); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.flags, got, tt.want)
		}
	}
	c.checkNothingLeft(t)
}

// TestKilledHypervisor: an instance whose QEMU is killed is dead, says why,
// and can be started again.
func TestKilledHypervisor(t *testing.T) {
	c := newProbe(t)
	c.ready(t, "victim", []string{"-p", "127.0.0.1:0:8080"})
	// Another process than the one that started it sees it run.
	if s, ok := c.ps(t, "victim"); !ok || s.Status != "running" {
		t.Fatalf("ps shows %+v", s)
	}
	pids := c.processes(t, "qemu-system")
	if len(pids) != 1 {
		t.Fatalf("one machine runs in the processes %v", pids)
	}
	pid, err := strconv.Atoi(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r := c.run(t, "wait", "victim")
	if r.status != 125 {
		t.Errorf("wait: status %d, want 125: %s%s", r.status, r.stdout, r.stderr)
	}
	if s, ok := c.ps(t, "victim", "-a"); !ok || s.Status != "dead" || s.Reason == "" {
		t.Errorf("ps -a shows %+v, want it dead, with a reason", s)
	}
	if _, ok := c.ps(t, "victim"); ok {
		t.Error("ps shows a dead instance as running")
	}
	c.must(t, "start", "victim")
	c.waitReady(t, "victim", 2)
	c.must(t, "stop", "-t", grace, "victim")
	c.must(t, "rm", "victim")
	c.checkNothingLeft(t)
}

// TestKillEndsForGood: a kill is the end, whatever the restart policy, by
// either spelling; another signal is only a signal.
func TestKillEndsForGood(t *testing.T) {
	c := newProbe(t)
	for _, args := range [][]string{{"kill", "stays"}, {"kill", "-s", "SIGKILL", "stays"}} {
		c.ready(t, "stays", []string{"--restart", "always"})
		c.must(t, args...)
		if r := c.run(t, "wait", "stays"); r.status != 128+9 {
			t.Errorf("%v: wait: status %d, want 137: %s%s", args, r.status, r.stdout, r.stderr)
		}
		if s, _ := c.ps(t, "stays", "-a"); s.Status != "exited" {
			t.Errorf("%v: afterwards it is %+v", args, s)
		}
		c.must(t, "rm", "stays")
	}
	c.checkNothingLeft(t)
}
