//go:build e2e && linux

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"capstan/internal/hypervisor/vbox/vboxtest"
)

// newVirtualBox returns a capstan on whose host is a VirtualBox.
func newVirtualBox(t *testing.T) (*capstan, *vboxtest.VirtualBox) {
	t.Helper()
	v := vboxtest.New(t, "../..")
	t.Setenv("PATH", filepath.Dir(v.Path)+":"+os.Getenv("PATH"))
	return newProbe(t), v
}

// TestVirtualBox: the life of an instance on VirtualBox, as a user sees it.
func TestVirtualBox(t *testing.T) {
	need(t, "redis-cli", "redis-tools")
	c, v := newVirtualBox(t)
	c.must(t, "build", "redis", appContext(t, "redis"))
	const name = "cache"
	if got := c.must(t, "run", "-d", "--on", "vbox", "--name", name, "-p", "127.0.0.1:0:6379", "redis"); got != name+"\n" {
		t.Errorf("run -d printed %q", got)
	}
	set := func(key string) {
		t.Helper()
		c.eventually(t, name, func(within time.Duration) error { return redisClient(t, c.address(t, name, 6379), within) })
		if out := c.redis(t, name, "SET", key, "kept"); out != "OK\n" {
			t.Errorf("SET: %q", out)
		}
	}
	set("first")
	if got := c.must(t, "inspect", "--format", "{{.Platform}} {{.State.Accel}}", name); got != "vbox virtualbox\n" {
		t.Errorf("inspect: %q", got)
	}
	if got := c.must(t, "stats", "--format", "json", name); !strings.Contains(got, name) {
		t.Errorf("stats: %s", got)
	}
	if log := c.must(t, "logs", name); !strings.Contains(log, "Ready to accept connections") || strings.Contains(log, "BdsDxe") {
		t.Errorf("its log:\n%s", log)
	}
	c.stopped(t, name, 0)
	if left := v.Registered(t); len(left) > 0 {
		t.Errorf("VirtualBox knows a stopped instance: %q", left)
	}
	c.must(t, "start", name)
	set("second")
	if got := c.redis(t, name, "GET", "first"); got != "kept\n" {
		t.Errorf("after a restart GET printed %q", got)
	}
	c.must(t, "rm", "-f", name)
	if left := v.Registered(t); len(left) > 0 {
		t.Errorf("VirtualBox knows a removed instance: %q", left)
	}
	c.checkNothingLeft(t)
}

// redis runs a command of redis-cli's.
func (c *capstan) redis(t *testing.T, name string, args ...string) string {
	t.Helper()
	host, port, _ := strings.Cut(c.address(t, name, 6379), ":")
	out, err := tool(conversation, "", append([]string{"redis-cli", "-h", host, "-p", port}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestVirtualBoxEnds: exit statuses, restarts, and a supervisor that is killed.
func TestVirtualBoxEnds(t *testing.T) {
	c, v := newVirtualBox(t)
	if r := c.run(t, "run", "--rm", "--on", "vbox", probe, "/probe", "exit", "7"); r.status != 7 || r.stdout != "exit 7\n" {
		t.Errorf("run: %+v", r)
	}
	r := c.run(t, "run", "--on", "vbox", "--name", "again", "--restart", "on-failure:1", probe, "/probe", "exit", "3")
	if r.status != 3 || r.stdout != "exit 3\nexit 3\n" {
		t.Errorf("run with --restart: %+v", r)
	}
	c.must(t, "rm", "again")

	const name = "orphan"
	c.ready(t, name, []string{"--on", "vbox"})
	pid := c.processes(t, "capstan")
	if len(pid) != 1 {
		t.Fatalf("the supervisors are %q", pid)
	}
	supervisor, err := strconv.Atoi(pid[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for alive(supervisor) {
		time.Sleep(time.Millisecond)
	}
	if len(v.Running(t)) != 1 {
		t.Error("the machine went with its supervisor: there is nothing to clean up")
	}
	if s, ok := c.ps(t, name, "-a"); !ok || s.Status != "dead" {
		t.Errorf("ps -a shows %+v", s)
	}
	if left := slices.Concat(v.Running(t), v.Registered(t)); len(left) > 0 {
		t.Errorf("after ps VirtualBox still has %q", left)
	}
	c.must(t, "start", name)
	c.must(t, "rm", "-f", name)
	c.checkNothingLeft(t)
}

// TestVirtualBoxRefuses: what cannot be is said in a sentence, with the way out,
// and leaves nothing.
func TestVirtualBoxRefuses(t *testing.T) {
	v := vboxtest.New(t, "../..")
	path := os.Getenv("PATH")
	c := newProbe(t)
	for _, tt := range []struct {
		path   string
		args   []string
		status int
		want   string
	}{
		{path, nil, 125, "vbox: VirtualBox is not installed\n  try: install it"},
		{filepath.Dir(v.Real) + ":" + path, nil, 125, "VirtualBox's kernel module is not loaded\n  try: modprobe vboxdrv"},
		{filepath.Dir(v.Path) + ":" + path, []string{"-v", "/tmp:/mnt"}, 2, "the vbox driver cannot share directories of this host\n  try: "},
		{filepath.Dir(v.Path) + ":" + path, []string{"--accel", "tcg"}, 2, "the vbox driver cannot be told how to accelerate a machine\n  try: "},
		{filepath.Dir(v.Path) + ":" + path, []string{"-m", "64M"}, 2, "the vbox driver cannot run a machine with 64 MiB of memory\n  try: -m 128M"},
		{filepath.Dir(v.Path) + ":" + path, []string{"-c", "65"}, 2, "the vbox driver cannot give a machine 65 CPUs\n  try: "},
		{filepath.Dir(v.Path) + ":" + path, []string{"-p", "[::1]:80:80"}, 2, "the vbox driver cannot forward from the IPv6 address ::1\n  try: "},
		{filepath.Dir(v.Path) + ":" + path, []string{"--network", "bridge:eth0", "-p", "80:80"}, 2, "--network bridge:eth0: there are no ports"},
	} {
		t.Setenv("PATH", tt.path)
		r := c.run(t, slices.Concat([]string{"run", "--rm", "--on", "vbox"}, tt.args, []string{probe})...)
		if r.status != tt.status || !strings.Contains(r.stderr, tt.want) || r.stdout != "" {
			t.Errorf("%q: status %d, %q", tt.args, r.status, r.stderr)
		}
		if left := v.Registered(t); len(left) > 0 {
			t.Errorf("%q: left in VirtualBox: %q", tt.args, left)
		}
	}
	c.checkNothingLeft(t)
}
