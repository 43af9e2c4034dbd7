//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"capstan/internal/cloud/ec2/ec2test"
	"capstan/internal/cloud/gce/gcetest"
)

// fault is what becomes of a call to a cloud.
type fault int

const (
	passes    fault = iota
	throttled       // the cloud says that it is too much
	broken          // the cloud answers 503
	cut             // the connection is cut before the call arrives
	lost            // and after that
)

// peril is a cloud that can be told to fail. Its machines boot nothing.
type peril struct {
	on   string
	env  []string
	fail func(next func() fault) // what becomes of each call from now on
	left func(t *testing.T) []string
}

func perilGCE(t *testing.T) peril {
	cloud := gcetest.Pretend(t, "192.0.2.7")
	return peril{
		on: "gce", env: append(cloud.Env(t), "CLOUDSDK_COMPUTE_ZONE="+gcetest.Zone),
		fail: func(next func() fault) {
			cloud.Trouble(func(*http.Request, int) gcetest.Trouble {
				switch next() {
				case throttled:
					return gcetest.Trouble{Status: http.StatusTooManyRequests}
				case broken:
					return gcetest.Trouble{Status: http.StatusServiceUnavailable}
				case cut:
					return gcetest.Trouble{Lost: true}
				case lost:
					return gcetest.Trouble{After: true}
				}
				return gcetest.Trouble{}
			})
		},
		left: func(t *testing.T) []string { return cloud.Instances(t) },
	}
}

func perilEC2(t *testing.T) peril {
	cloud := ec2test.Pretend(t, "192.0.2.7")
	return peril{
		on: "ec2", env: cloud.Env(),
		fail: func(next func() fault) {
			cloud.Fail(func(string) ec2test.Fault {
				return map[fault]ec2test.Fault{throttled: ec2test.Throttle, broken: ec2test.Broken, cut: ec2test.Cut, lost: ec2test.Lost}[next()]
			})
		},
		left: func(t *testing.T) []string { return cloud.Instances(t, "eu-central-1") },
	}
}

// perils are the clouds by their names.
var perils = map[string]func(*testing.T) peril{"EC2": perilEC2, "GCE": perilGCE}

// chance makes a test's choices.
func chance(t *testing.T) *rand.Rand {
	seed := soakSeed(t)
	t.Logf("SOAK_SEED=%d repeats these choices", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func fair() fault { return passes }

// badDay is a cloud that throttles a third of all calls, loses some, and
// answers none of some in a row, but is never down for long.
func badDay(rnd *rand.Rand) func() fault {
	const most = 4
	burst, inRow := 0, 0
	return func() fault {
		now := passes
		switch n := rnd.IntN(60); {
		case burst > 0:
			burst, now = burst-1, broken
		case n < 20:
			now = throttled
		case n < 21:
			burst, now = most-1, broken
		case n < 22:
			now = cut
		case n < 24:
			now = lost
		}
		if inRow++; now == passes || inRow > most {
			inRow, burst = 0, 0
			return passes
		}
		return now
	}
}

// TestCloudsOnBadDays: a bad day of a cloud's is no concern of whose instance
// lives there.
func TestCloudsOnBadDays(t *testing.T) {
	for name, start := range perils {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is pauses
			c, p := newProbe(t), start(t)
			c.env = p.env
			p.fail(badDay(chance(t)))
			runs := func(want bool) {
				t.Helper()
				var s state
				for range 10 { // ps does not wait for long for a cloud's answer
					if s, _ = c.ps(t, "one", "-a"); s.Status != "unknown" {
						break
					}
				}
				if s.Name == "" || s.Status == "unknown" || s.Status == "running" != want {
					t.Errorf("it is %+v; should it run: %v", s, want)
				}
			}
			c.must(t, "run", "--on", p.on, "-d", "--name", "one", "-m", "256M", "-p", "80", "--allow", "192.0.2.0/24", probe, "/probe", "stay")
			runs(true)
			c.must(t, "stop", "one")
			runs(false)
			c.must(t, "start", "one")
			runs(true)
			c.must(t, "rm", "-f", "one")
			c.must(t, "run", "--on", p.on, "-d", "--name", "group", "--replicas", "2", probe, "/probe", "stay")
			c.must(t, "scale", "group", "3")
			c.must(t, "rm", "-f", "group")
			p.fail(fair)
			if left := p.left(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// TestCloudsWithoutUs: wherever a command ends that makes an instance in a
// cloud, the same command works, once what is left of it is removed where it
// says so, and what rm -f leaves is nothing.
func TestCloudsWithoutUs(t *testing.T) {
	for name, start := range perils {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := newProbe(t), start(t)
			c.env = p.env
			e := &ending{t: t, c: c, peril: p, rnd: chance(t)}
			single := []string{"run", "--on", p.on, "-d", "--name", prey, "-m", "256M", "-p", "80", "--allow", "192.0.2.0/24", probe, "/probe", "stay"}
			group := []string{"run", "--on", p.on, "-d", "--name", prey, "--replicas", "2", probe, "/probe", "stay"}
			for _, v := range []struct {
				what   string
				args   []string
				before []string // another command
				rounds int
			}{
				{"run with a push", single, []string{"prune", "--on", p.on, "--all"}, 1}, // measured with one
				{"run", single, nil, 2},
				{"run --replicas", group, nil, 2},
			} {
				calls := e.measure(v.args)
				for range soakNumber(t, "SOAK_ENDS", v.rounds) {
					for _, signal := range []os.Signal{os.Interrupt, syscall.SIGKILL} {
						if v.before != nil {
							c.must(t, v.before...)
						}
						at := 1 + e.rnd.IntN(calls)
						e.round(fmt.Sprintf("%s, with %s at call %d of %d", v.what, signal, at, calls), signal, at, v.args)
						if t.Failed() {
							return
						}
					}
				}
			}
		})
	}
}

// ending is one run of TestCloudsWithoutUs.
type ending struct {
	peril
	t   *testing.T
	c   *capstan
	rnd *rand.Rand
}

// measure counts the calls that a command makes, undisturbed.
func (e *ending) measure(args []string) (calls int) {
	e.fail(func() fault { calls++; return passes })
	e.c.must(e.t, args...)
	e.fail(fair)
	e.c.must(e.t, "rm", "-f", prey)
	return calls
}

// round ends a command at a call of its own to the cloud, and tries what then
// can be done.
func (e *ending) round(where string, signal os.Signal, at int, args []string) {
	e.t.Helper()
	r := e.endAt(signal, at, args)
	e.t.Logf("%s: status %d", where, r.status)
	if signal == os.Interrupt && r.status != 0 && r.status != 130 {
		e.t.Errorf("%s: status %d\n%s", where, r.status, r.stderr)
	}
	left := e.left(e.t)
	if signal == os.Interrupt && r.status != 0 && len(left) > 0 && !strings.Contains(r.stderr, "capstan rm -f "+prey) {
		e.t.Errorf("%s: it leaves %q and says\n%s", where, left, r.stderr)
	}
	if again := e.c.run(e.t, args...); again.status != 0 {
		if _, ok := e.c.ps(e.t, prey, "-a"); !ok {
			e.t.Fatalf("%s: it says\n%sand the same command then\n%s", where, r.stderr, again.stderr)
		}
		e.c.must(e.t, "rm", "-f", prey)
		e.c.must(e.t, args...)
	}
	e.c.must(e.t, "rm", "-f", prey)
	if left := e.left(e.t); len(left) > 0 {
		e.t.Errorf("%s: after rm -f is left %q", where, left)
	}
	if names := e.c.must(e.t, "ps", "-a", "-q"); names != "" {
		e.t.Errorf("%s: after rm -f there is %q", where, names)
	}
}

// endAt sends a command a signal when it makes its nth call.
func (e *ending) endAt(signal os.Signal, nth int, args []string) result {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandBound)
	defer cancel()
	cmd := e.c.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var started sync.WaitGroup
	started.Add(1)
	// Whether the call arrives, and whether its answer does, is as it happens.
	become := []fault{passes, cut, lost}[e.rnd.IntN(3)]
	n := 0
	e.fail(func() fault {
		if n++; n != nth {
			return passes
		}
		started.Wait()
		_ = cmd.Process.Signal(signal) // it may have ended
		return become
	})
	defer e.fail(fair)
	err := cmd.Start()
	started.Done()
	if err != nil {
		e.t.Fatal(err)
	}
	_ = cmd.Wait() // its status tells
	if ctx.Err() != nil {
		e.t.Errorf("%s: it still runs after %s: %s", strings.Join(args, " "), commandBound, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}
