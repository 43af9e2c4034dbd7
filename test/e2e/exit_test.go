//go:build e2e

package e2e

import (
	"errors"
	"strings"
	"testing"
)

var errNotReady = errors.New("the probe is not ready")

// TestExitStatuses holds that a status is the same whether somebody watches
// the application or asks for it afterwards.
func TestExitStatuses(t *testing.T) {
	c := newProbe(t)
	for _, tt := range []struct {
		name   string
		flags  []string
		args   []string
		status int
		says   string // on stderr, or as the reason
	}{
		{"0", nil, []string{"/probe", "exit", "0"}, 0, ""},
		{"0 in 48M", []string{"-m", "48M"}, []string{"/probe", "exit", "0"}, 0, ""},
		{"1", nil, []string{"/probe", "exit", "1"}, 1, ""},
		{"42", nil, []string{"/probe", "exit", "42"}, 42, ""},
		{"SIGSEGV", nil, []string{"/probe", "segv"}, 128 + 11, ""},
		{"OOM", []string{"-m", "64M"}, []string{"/probe", "oom"}, 128 + 9, "memory"},
		{"kernel panic", nil, []string{"/probe", "panic"}, 124, "panic"},
		{"missing", []string{"--entrypoint", "/no/such"}, nil, 127, "/no/such"},
		{"not executable", []string{"--entrypoint", "/etc/passwd"}, nil, 126, "/etc/passwd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			line := append(append([]string{"run", "--rm"}, tt.flags...), probe)
			r := c.run(t, append(line, tt.args...)...)
			if r.status != tt.status || !strings.Contains(r.stdout+r.stderr, tt.says) {
				t.Errorf("in the foreground: status %d, want %d and %q\nstdout: %s\nstderr: %s", r.status, tt.status, tt.says, r.stdout, r.stderr)
			}
			c.checkNothingLeft(t)

			line = append(append([]string{"run", "-d", "--name", "ends"}, tt.flags...), probe)
			r = c.run(t, append(line, tt.args...)...)
			// An application that could not be started is told at once. So is a
			// machine that has died, if it has by then.
			started := r.status == 0 && tt.status != 126 && tt.status != 127
			if told := r.status == tt.status && strings.Contains(r.stderr, tt.says); !started && !told {
				t.Errorf("run -d: status %d, and said %q", r.status, r.stderr)
			}
			if tt.status == 127 { // of one that is not kept, nothing is left by then
				gone := c.run(t, "run", "-d", "--rm", "--entrypoint", "/no/such", probe)
				if left := c.list(t, "-a"); gone.status != 127 || len(left) != 1 {
					t.Errorf("run -d --rm: status %d, and %+v", gone.status, left)
				}
			}
			r = c.run(t, "wait", "ends")
			if r.status != tt.status || strings.TrimSpace(r.stdout) != itoa(tt.status) {
				t.Errorf("wait: status %d, printed %q, want %d\n%s", r.status, r.stdout, tt.status, r.stderr)
			}
			s, ok := c.ps(t, "ends", "-a")
			if !ok || s.ExitCode != tt.status || s.Status == "running" {
				t.Errorf("ps -a shows %+v, want status %d", s, tt.status)
			}
			c.must(t, "rm", "ends")
			c.checkNothingLeft(t)
		})
	}
}

// TestOutput holds that a foreground run prints what the application prints,
// and nothing else, and that logs says the same later.
func TestOutput(t *testing.T) {
	c := newProbe(t)
	r := c.run(t, "run", "--name", "prints", probe, "/probe", "count", "2000")
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.status != 0 || len(lines) != 2000 || lines[0] != "line 1" || lines[1999] != "line 2000" {
		t.Errorf("status %d, %d lines:\n%s%s", r.status, len(lines), tail(r.stdout), r.stderr)
	}
	if log := c.must(t, "logs", "prints"); log != r.stdout {
		t.Errorf("logs printed %d bytes, run %d", len(log), len(r.stdout))
	}
	if got, want := c.must(t, "logs", "--tail", "3", "prints"), "line 1998\nline 1999\nline 2000\n"; got != want {
		t.Errorf("logs --tail 3 printed %q, want %q", got, want)
	}
	// The kernel has nothing to say but how the machine ended.
	if got, want := c.must(t, "logs", "--kernel", "prints"), "reboot: Restarting system\r\n"; got != want {
		t.Errorf("logs --kernel printed %q, want %q", got, want)
	}
	c.must(t, "rm", "prints")
	c.checkNothingLeft(t)
}
