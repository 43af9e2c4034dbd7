//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// prey is the instance that is killed at, keeper one that keeps the probe's
// image from being pruned, scrap an image.
const prey, keeper, scrap = "prey", "keeper", "scrap"

// victim is a command that is killed, or one during which a process is.
type victim struct {
	what   string
	needs  func(k *killer) // what there must be before
	args   []string
	target string // "" is the command itself
}

var (
	runDetached = []string{"run", "-d", "-m", "64M", "--name", prey, probe, "/probe", "stay"}
	stopPrey    = []string{"stop", "-t", grace, prey}
	idle        = []string{"ps"} // while nothing else happens
)

var victims = []victim{
	{"build", (*killer).source, []string{"build", "--from", "DIR", scrap}, ""},
	{"build on a base", (*killer).source, []string{"build", scrap, "DIR"}, ""},
	{"run -d", (*killer).gone, runDetached, ""},
	{"run --rm", (*killer).gone, []string{"run", "--rm", "-m", "64M", "--name", prey, probe, "/probe", "say", "a word"}, ""},
	{"start", (*killer).stopped, []string{"start", prey}, ""},
	{"stop", (*killer).running, stopPrey, ""},
	{"rm", (*killer).stopped, []string{"rm", prey}, ""},
	{"rm -f", (*killer).running, []string{"rm", "-f", prey}, ""},
	{"tag", (*killer).image, []string{"tag", scrap, "other"}, ""},
	{"rmi", (*killer).image, []string{"rmi", scrap}, ""},
	{"prune", (*killer).image, []string{"prune", "--all"}, ""},
	{"supervisor at its start", (*killer).gone, runDetached, supervisors},
	{"QEMU at its start", (*killer).gone, runDetached, emulators},
	{"supervisor", (*killer).running, idle, supervisors},
	{"QEMU", (*killer).running, idle, emulators},
	{"supervisor at its end", (*killer).running, stopPrey, supervisors},
	{"QEMU at its end", (*killer).running, stopPrey, emulators},
}

// TestKills kills capstan, its supervisors and QEMU at random moments, and
// looks after each whether all is as it should be.
func TestKills(t *testing.T) {
	c := newProbe(t)
	c.tmp = t.TempDir()
	seed := soakSeed(t)
	t.Logf("SOAK_SEED=%d repeats these choices", seed)
	k := &killer{t: t, c: c, rnd: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), took: map[string]time.Duration{}}
	c.must(t, "run", "-m", "64M", "--name", keeper, probe, "/probe", "say", "kept")
	for _, v := range victims {
		k.measure(v)
	}
	kills, began := soakNumber(t, "SOAK_KILLS", 34), time.Now()
	n := 0
	for ; k.hits < kills; n++ { // one that comes too late does not count
		v := victims[n%len(victims)]
		started := time.Now()
		k.kill(v)
		k.check(v)
		t.Logf("%d: %s: %.1f s", n, v.what, time.Since(started).Seconds())
		if t.Failed() {
			t.Fatalf("kill %d, of %s; SOAK_SEED=%d", n, v.what, seed)
		}
	}
	t.Logf("%d kills, and %d that came too late, in %.0f s, and all is well", kills, n-kills, time.Since(began).Seconds())
	for _, s := range c.list(t, "-a") {
		c.must(t, "rm", "-f", s.Name)
	}
	c.checkStoreEmpty(t)
}

// killer is one run of TestKills.
type killer struct {
	t    *testing.T
	c    *capstan
	rnd  *rand.Rand
	dir  string                   // to build from
	took map[string]time.Duration // by victim, undisturbed
	hits int
}

// measure runs a victim undisturbed.
func (k *killer) measure(v victim) {
	v.needs(k)
	began := time.Now()
	k.c.must(k.t, k.args(v)...)
	k.took[v.what] = time.Since(began)
}

func (k *killer) args(v victim) []string {
	args := append([]string(nil), v.args...)
	for n := range args {
		if args[n] == "DIR" {
			args[n] = k.dir
		}
	}
	return args
}

// kill kills a victim at a random moment of its life.
func (k *killer) kill(v victim) {
	v.needs(k)
	delay := time.Duration(k.rnd.Float64() * float64(k.took[v.what]) * 1.1)
	ctx, cancel := context.WithTimeout(context.Background(), commandBound)
	defer cancel()
	cmd := k.c.command(ctx, k.args(v)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	select { // the random moment is what this test is about
	case <-time.After(delay):
	case <-ended:
	}
	hit := false
	if v.target == "" {
		cmd.Process.Kill() // it may have ended
	} else {
		hit = k.killProcess(v, ended)
	}
	<-ended
	if ctx.Err() != nil {
		k.t.Errorf("%s: the command still runs after %s: %s", v.what, commandBound, &said)
	}
	if hit || !cmd.ProcessState.Exited() {
		k.hits++
	}
}

// killProcess kills the prey's supervisor or QEMU, as soon as there is one, and
// reports whether there was. As soon as the supervisor is dead, the instance is not shown as running.
func (k *killer) killProcess(v victim, ended <-chan struct{}) bool {
	for {
		pid, ok := k.c.machines(k.t)[prey][v.target]
		if ok {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return false
			}
			k.awaitDeath(v, pid)
			return true
		}
		select {
		case <-ended:
			return false // it was too late
		case <-time.After(time.Millisecond):
		}
	}
}

func (k *killer) awaitDeath(v victim, pid int) {
	for alive(pid) {
		time.Sleep(time.Millisecond) // it is nobody's here to wait for
	}
	if v.target != supervisors {
		return
	}
	for _, s := range k.c.list(k.t, "-a") {
		if s.Name == prey && (s.Status == "running" || s.Status == "dead" && s.Reason == "") {
			k.t.Errorf("its supervisor was killed, and it is shown as %+v", s)
		}
	}
}

// check looks at everything after a kill.
func (k *killer) check(v victim) {
	k.settle()
	var images []struct{ Name, Problem string }
	out := k.c.do(k.t, "images", "--format", "json").stdout
	if err := json.Unmarshal([]byte(out), &images); err != nil || len(images) == 0 {
		k.t.Errorf("images --format json printed %q, %v", out, err)
	}
	for _, i := range images {
		if i.Problem != "" {
			k.t.Errorf("image %s: %s", i.Name, i.Problem)
		}
	}
	k.c.do(k.t, "doctor", "--deep")
	if r := k.c.do(k.t, "run", "--rm", "-m", "48M", probe, "/probe", "say", "alive"); r.stdout != "alive\n" {
		k.t.Errorf("a new run after killing %s printed %q", v.what, r.stdout)
	}
}

// settle waits until ps shows as running what has a supervisor and a QEMU, and
// nothing else has either. What was begun goes on: a machine whose run -d was
// killed may still be starting.
func (k *killer) settle() {
	deadline := time.Now().Add(goneBound)
	for {
		wrong := k.unsettled()
		if wrong == "" || k.t.Failed() {
			return
		}
		if time.Now().After(deadline) {
			k.t.Errorf("after %s still: %s", goneBound, wrong)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (k *killer) unsettled() string {
	machines := k.c.machines(k.t)
	for _, s := range k.c.list(k.t, "-a") {
		want := 0
		if s.Status == "running" {
			want = 2
		}
		if len(machines[s.Name]) != want {
			return fmt.Sprintf("%+v has the processes %v", s, machines[s.Name])
		}
		if s.Status == "dead" && s.Reason == "" {
			return fmt.Sprintf("%s is dead without a reason", s.Name)
		}
		delete(machines, s.Name)
	}
	if len(machines) > 0 {
		return fmt.Sprintf("there are processes of no instance: %v", machines)
	}
	return ""
}

// gone makes sure that there is no prey.
func (k *killer) gone() {
	if _, ok := k.c.ps(k.t, prey, "-a"); ok {
		k.c.must(k.t, "rm", "-f", prey)
	}
}

// running makes sure that the prey runs.
func (k *killer) running() {
	if s, ok := k.c.ps(k.t, prey); !ok || s.Status != "running" {
		k.gone()
		k.c.must(k.t, runDetached...)
	}
}

// stopped makes sure that the prey has run, and does not.
func (k *killer) stopped() {
	k.running()
	k.c.must(k.t, "kill", prey)
}

// source makes something new to build from.
func (k *killer) source() {
	content := make([]byte, 2<<20)
	for n := 0; n < len(content); n += 8 {
		copy(content[n:], strconv.FormatUint(k.rnd.Uint64(), 36))
	}
	for name, text := range map[string][]byte{"Capstanfile": []byte("base: " + probe + "\nfiles:\n  /data: data\n"), "data": content} {
		if err := os.WriteFile(filepath.Join(k.dir, name), text, 0o644); err != nil {
			k.t.Fatal(err)
		}
	}
}

// image makes sure that there is scrap, new.
func (k *killer) image() {
	k.source()
	k.c.must(k.t, "build", "--from", k.dir, scrap)
}

// Kinds of processes that make an instance.
const (
	supervisors = "supervisor"
	emulators   = "QEMU"
)

// machines are the processes of this root's instances, by name and kind.
func (c *capstan) machines(t *testing.T) map[string]map[string]int {
	t.Helper()
	found := map[string]map[string]int{}
	for _, id := range c.processes(t, "") {
		pid, err := strconv.Atoi(id)
		if err != nil || !alive(pid) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", id, "cmdline")) // gone: nothing
		argv := strings.Split(string(line), "\x00")
		name, kind := "", ""
		switch {
		case len(argv) > 2 && argv[1] == "__supervise":
			name, kind = filepath.Base(argv[2]), supervisors
		case len(argv) > 2 && strings.HasPrefix(argv[2], "guest="):
			name, kind = strings.TrimPrefix(argv[2], "guest="), emulators
		default:
			continue
		}
		if found[name] == nil {
			found[name] = map[string]int{}
		}
		found[name][kind] = pid
	}
	return found
}

// alive tells whether a process runs: one that nobody has reaped does not, once
// the last of its threads has ended too and with it what the process held.
func alive(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return false
	}
	threads, _ := os.ReadDir(dir + "task")
	_, rest, _ := strings.Cut(string(stat), ") ")
	return len(threads) > 1 || !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// TestStalePID: what a killed supervisor left in an instance's directory is
// no reason to signal a process that has the number now.
func TestStalePID(t *testing.T) {
	c := newProbe(t)
	bystander := exec.Command("sleep", "3600")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer bystander.Wait()
	defer bystander.Process.Kill()
	for _, args := range [][]string{{"stop", prey}, {"kill", prey}, {"restart", prey}, {"rm", "-f", prey}, {"prune", "--instances"}} {
		c.must(t, runDetached...)
		supervisor := c.machines(t)[prey][supervisors]
		if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// One that is about to be gone has no command line any more, but still
		// its lock.
		for alive(supervisor) || len(c.machines(t)) > 0 {
			time.Sleep(time.Millisecond)
		}
		path := filepath.Join(c.root, "instances", prey, "state.json")
		stale := fmt.Sprintf(`{"status":"running","pid":%d,"exit":{"status":0}}`, bystander.Process.Pid)
		if err := os.WriteFile(path, []byte(stale), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, ok := c.ps(t, prey, "-a"); !ok || s.Status != "dead" || s.Reason == "" {
			t.Errorf("ps -a shows %+v", s)
		}
		c.run(t, args...)
		if !alive(bystander.Process.Pid) {
			t.Fatalf("%v signalled a process that is not the instance's", args)
		}
		if _, ok := c.ps(t, prey, "-a"); ok {
			c.must(t, "rm", "-f", prey)
		}
	}
	c.checkNothingLeft(t)
}
