//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Bounds, not expectations: under TCG on a busy machine a JVM takes a minute
// for what it does in a second elsewhere.
const (
	commandBound = 5 * time.Minute
	serveBound   = 5 * time.Minute
	goneBound    = time.Minute
	tryBound     = time.Minute // of one conversation with a server that may not be there yet
)

// grace is how many seconds an application has to end before it is killed. The
// ten that it has by default are too few where fifty boot at once, or for a
// JVM under TCG. On platforms that are elsewhere, run's --stop-timeout says so.
const grace = "240"

// capstan is the binary with a root of its own.
type capstan struct {
	bin, root string
	probe     string // the probe's program, where it is made
	tmp       string // for temporary files, where they are looked at
	env       []string
}

// result is how one command ended.
type result struct {
	stdout, stderr string
	status         int
}

// newCapstan returns a capstan whose root is new, and whose machines, should
// the test leave any, are ended with it.
func newCapstan(t *testing.T) *capstan {
	t.Helper()
	bin := os.Getenv("CAPSTAN_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin", "capstan")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("there is no capstan binary: %v (make builds it, CAPSTAN_BIN names another)", err)
	}
	need(t, "qemu-system-x86_64", "qemu-system-x86")
	c := &capstan{bin: bin, root: filepath.Join(t.TempDir(), "root")}
	t.Cleanup(func() {
		left := c.run(t, "ps", "-a", "-q")
		for _, name := range strings.Fields(left.stdout) {
			if t.Failed() {
				t.Logf("log of %s:\n%s", name, tail(c.run(t, "logs", name).stdout))
				t.Logf("kernel's log of %s:\n%s", name, tail(c.run(t, "logs", "--kernel", name).stdout))
			} else {
				t.Errorf("%s was left behind", name)
			}
			c.run(t, "rm", "-f", name)
		}
		c.checkNothingLeft(t)
	})
	return c
}

// need fails the test where a tool is missing.
func need(t *testing.T, tool, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", tool, debianPackage)
	}
	return path
}

// command prepares a capstan command.
func (c *capstan) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.bin, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CAPSTAN_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "CAPSTAN_ROOT="+c.root)
	cmd.Env = append(cmd.Env, c.env...)
	if c.tmp != "" {
		cmd.Env = append(cmd.Env, "TMPDIR="+c.tmp)
	}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs a command to its end, whatever its status.
func (c *capstan) run(t *testing.T, args ...string) result {
	t.Helper()
	return c.runIn(t, "", args...)
}

func (c *capstan) runIn(t *testing.T, dir string, args ...string) result {
	t.Helper()
	r, err := c.tryIn(dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// try is run where a failure of the test is the caller's to tell.
func (c *capstan) try(args ...string) (result, error) { return c.tryIn("", args...) }

func (c *capstan) tryIn(dir string, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandBound)
	defer cancel()
	cmd := c.command(ctx, args...)
	cmd.Dir = dir
	r, err := end(cmd)
	if ctx.Err() != nil {
		return r, fmt.Errorf("capstan %s: still running after %s\n%s%s", strings.Join(args, " "), commandBound, r.stdout, r.stderr)
	}
	return r, err
}

// finish runs a command to its end, whatever its status.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	r, err := end(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// end is finish where a failure of the test is the caller's to tell.
func end(cmd *exec.Cmd) (result, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, &stdout, &stderr)
	}
	return r, nil
}

// must runs a command that has to succeed, and returns what it printed.
func (c *capstan) must(t *testing.T, args ...string) string {
	t.Helper()
	r := c.run(t, args...)
	if r.status != 0 {
		t.Fatalf("capstan %s: status %d\n%s%s", strings.Join(args, " "), r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// state is an instance as ps --format json shows it.
type state struct {
	Name     string   `json:"name"`
	Status   string   `json:"status"`
	ExitCode int      `json:"exit_code"`
	Reason   string   `json:"reason"`
	Ports    []string `json:"ports"`
}

// stopped stops an instance, whose application then ends with status.
func (c *capstan) stopped(t *testing.T, name string, status int) {
	t.Helper()
	c.must(t, "stop", "-t", grace, name)
	if s, ok := c.ps(t, name, "-a"); !ok || s.Status != "exited" || s.ExitCode != status {
		t.Errorf("after stop it is %+v, and should be exited with %d", s, status)
	}
}

// ps returns the named instance's state, and whether there is such a one.
func (c *capstan) ps(t *testing.T, name string, flags ...string) (state, bool) {
	t.Helper()
	out := c.must(t, append([]string{"ps", "--format", "json"}, flags...)...)
	var all []state
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("ps --format json printed %q: %v", out, err)
	}
	for _, s := range all {
		if s.Name == name {
			return s, true
		}
	}
	return state{}, false
}

// address is where the host reaches a guest's port of an instance.
func (c *capstan) address(t *testing.T, name string, guestPort int) string {
	t.Helper()
	s, ok := c.ps(t, name)
	if !ok {
		t.Fatalf("%s does not run: %s", name, c.must(t, "ps", "-a"))
	}
	for _, p := range s.Ports {
		host, guest, _ := strings.Cut(p, "->")
		if guest == fmt.Sprintf("%d/tcp", guestPort) {
			return host
		}
	}
	t.Fatalf("%s has the ports %q, and %d is none of them", name, s.Ports, guestPort)
	return ""
}

// eventually calls f until it returns nil, for as long as the named instance
// runs. Once run -d has returned, a connection that the application does not
// accept yet is closed at once, as with a container; nothing announces when it
// does, so this asks again.
func (c *capstan) eventually(t *testing.T, name string, f func(within time.Duration) error) {
	t.Helper()
	deadline := time.Now().Add(serveBound)
	for n := 1; ; n++ {
		err := f(tryBound)
		if err == nil {
			return
		}
		if n%20 == 0 {
			if s, ok := c.ps(t, name, "-a"); !ok || s.Status != "running" {
				t.Fatalf("%s ended before it served: %+v\n%s", name, s, tail(c.run(t, "logs", name).stdout))
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not serve after %s: %v", name, serveBound, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// checkNothingLeft fails the test if a process or an instance's directory is
// left of this root. What is about to end has a moment for it.
func (c *capstan) checkNothingLeft(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(goneBound)
	for {
		left := c.left(t)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// left lists processes that have to do with this root, by their arguments or
// working directory, and what is in the instances' directory.
func (c *capstan) left(t *testing.T) []string {
	t.Helper()
	var left []string
	entries, err := os.ReadDir(filepath.Join(c.root, "instances"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, "instances/"+e.Name())
	}
	for _, pid := range c.processes(t, "") {
		argv, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		left = append(left, "process "+pid+": "+string(bytes.ReplaceAll(argv, []byte{0}, []byte{' '})))
	}
	return left
}

// processes lists the IDs of the processes of this root whose first argument
// contains program.
func (c *capstan) processes(t *testing.T, program string) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range dirs {
		argv, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		first, _, _ := bytes.Cut(argv, []byte{0})
		ours := bytes.Contains(argv, []byte(c.root)) || strings.HasPrefix(cwd, c.root)
		if ours && strings.Contains(string(first), program) {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}

// tail is the end of a long text.
func tail(s string) string {
	const most = 4000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}
