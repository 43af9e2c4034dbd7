package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		last, next string
		want       int
	}{
		{"", "", 0},
		{"", "abc", 0},
		{"abc", "", 0},
		{"abc", "abc", 3},
		{"abc", "bcd", 2},
		{"abc", "cde", 1},
		{"abc", "xyz", 0},
		{"a", "abc", 1},
		{"abcabc", "abcabcabc", 6},
		{"tick\ntick\n", "tick\ntick\ntick\n", 10},
		{"tick\ntick\n", "k\ntick\ntock\n", 7},
		{"aabaaab", "aabaaabaab", 7},
		{"xaab", "aabaab", 3},
		{"abababc", "ababd", 0},
	} {
		if got := overlap([]byte(c.last), []byte(c.next)); got != c.want {
			t.Errorf("%q, %q: %d, not %d", c.last, c.next, got, c.want)
		}
	}
}

func FuzzOverlap(f *testing.F) {
	f.Add([]byte("tick\ntick\n"), []byte("ick\ntick\ntock"))
	f.Add([]byte("abab"), []byte("babab"))
	f.Fuzz(func(t *testing.T, last, next []byte) {
		want := min(len(last), len(next))
		for !bytes.HasSuffix(last, next[:want]) {
			want--
		}
		if got := overlap(last, next); got != want {
			t.Errorf("%q, %q: %d, not %d", last, next, got, want)
		}
	})
}

// FuzzTranscript: of a console whose lines are all different, windows give
// every byte once and in order, or say that some are missing.
func FuzzTranscript(f *testing.F) {
	f.Add([]byte{10, 200, 0, 40, 255, 1}, byte(100))
	f.Add([]byte{1, 1, 1, 1}, byte(40))
	f.Fuzz(func(t *testing.T, steps []byte, size byte) {
		width := sureOverlap + int(size)
		steps = steps[:min(len(steps), 100)]
		var all, got []byte
		gaps, at := 0, 0
		tr := &transcript{window: true}
		for line := 0; len(steps) > 0; steps = steps[1:] {
			for end := len(all) + int(steps[0]); len(all) < end; line++ {
				all = fmt.Appendf(all, "%x\n", line*line)
			}
			begin := max(0, len(all)-width)
			offset := int64(0)
			if begin > 0 {
				offset = hypervisor.Unplaced
			}
			said, missing := tr.after(slices.Clone(all[begin:]), offset)
			if lost := begin > at; lost && !missing {
				t.Fatalf("of %d to %d nothing was told", at, begin)
			} else if !lost && missing && begin+sureOverlap <= at {
				t.Fatalf("nothing is missing before %d, having come to %d", begin, at)
			} else if missing {
				gaps++
			} else {
				got = append(got[:min(len(got), at)], said...)
			}
			if !bytes.HasSuffix(all, said) {
				t.Fatalf("%q is not the console's end", said)
			}
			if gaps == 0 && !bytes.Equal(got, all) {
				t.Fatalf("got %q of %q", got, all)
			}
			at = len(all)
		}
	})
}

// windowing is a platform in memory that shows a window on the end of the console
// of its one machine. What EC2's driver does is tested there.
type windowing struct {
	hypervisor.Remote // nothing else is called

	mu     sync.Mutex
	width  int
	late   time.Duration // how long it takes until what is said is shown
	resets bool          // a start begins a new console
	hides  bool          // nothing is shown while the machine is off
	on     bool
	boots  int
	said   []word
}

type word struct {
	text string
	at   time.Time
}

func (w *windowing) Name() string { return "windows" }
func (w *windowing) Capabilities() hypervisor.Capabilities {
	return hypervisor.Capabilities{Away: true, Window: true}
}

func (w *windowing) Create(_ context.Context, _ *hypervisor.RemoteSpec, keep func(hypervisor.Handle) error) error {
	return keep(hypervisor.Handle(`{}`))
}

func (w *windowing) Start(context.Context, hypervisor.Handle) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.resets {
		w.said = nil
	}
	w.on = true
	return nil
}

func (w *windowing) Status(context.Context, hypervisor.Handle) (hypervisor.RemoteStatus, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return hypervisor.RemoteStatus{On: w.on}, nil
}

func (w *windowing) Stop(_ context.Context, _ hypervisor.Handle, grace time.Duration) error {
	if grace > 0 {
		w.end(0)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = false
	return nil
}

func (w *windowing) Console(context.Context, hypervisor.Handle, hypervisor.ConsolePart) (*hypervisor.Console, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var text string
	for _, s := range w.said {
		if time.Since(s.at) >= w.late && (w.on || !w.hides) {
			text += s.text
		}
	}
	c := &hypervisor.Console{}
	if len(text) > w.width {
		text, c.Offset = text[len(text)-w.width:], hypervisor.Unplaced
	}
	c.ReadCloser = io.NopCloser(strings.NewReader(text))
	return c, nil
}

func (w *windowing) Remove(context.Context, hypervisor.Handle) error { return nil }

func (w *windowing) say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, word{text, time.Now()})
}

// boot is what a machine says before its application does.
func (w *windowing) boot() {
	w.boots++
	w.say("firmware\nkernel\n" + string(api.FormatBegin(api.Begin{Boot: fmt.Sprint(w.boots)})))
}

// end is what it says in the end, as it switches itself off.
func (w *windowing) end(status int) {
	w.say(string(api.FormatExitOf(fmt.Sprint(w.boots), api.Exit{Status: status})))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = false
}

// lines are different ones, of some bytes altogether.
func lines(name string, size int) string {
	var all strings.Builder
	for n := 0; all.Len() < size; n++ {
		fmt.Fprintf(&all, "%s %d\n", name, n)
	}
	return all.String()
}

// windowed makes an instance, and starts it.
func windowed(t *testing.T, w *windowing) (*Instances, *Instance) {
	t.Helper()
	all := Under(t.TempDir(), nil).With(Remotes{Platforms: []hypervisor.Remote{w}, Log: DefaultLog})
	i, err := all.Create(Config{ID: NewID(), Name: "web", Created: time.Now(), Platform: w.Name()}, nothing)
	if err == nil {
		err = i.Make(t.Context(), hypervisor.RemoteSpec{})
	}
	if err == nil {
		_, err = i.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	i.maker.Close()
	return all, i
}

// follow is what following an instance's logs has shown by its end, in another
// process.
func follow(t *testing.T, all *Instances, tail int) (wait func() string) {
	t.Helper()
	i, err := all.Get("web")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- i.Logs(t.Context(), &said, LogOptions{Follow: true, Tail: tail}) }()
	return func() string {
		if err := <-done; err != nil {
			t.Errorf("following: %v", err)
		}
		return said.String()
	}
}

func logs(t *testing.T, i *Instance, tail int) string {
	t.Helper()
	var said bytes.Buffer
	if err := i.Logs(t.Context(), &said, LogOptions{Tail: tail}); err != nil {
		t.Fatal(err)
	}
	return said.String()
}

const gap = "[capstan: output is missing here: windows keeps only the end of a console]\n"

// TestWindow: an application that says more than a window shows, slowly enough
// to be followed, through a stop and a start.
func TestWindow(t *testing.T) {
	for name, resets := range map[string]bool{"a console that goes on": false, "a new console at each start": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &windowing{width: 4 << 10, late: 3 * time.Second, resets: resets}
				all, i := windowed(t, w)
				var said [3]string
				for run := 1; run <= 2; run++ {
					if run == 2 {
						if _, err := i.Start(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					wait := follow(t, all, -1)
					link, err := i.Attach(t.Context(), 0)
					if err != nil {
						t.Fatal(err)
					}
					attached := make(chan string)
					go func() {
						text, _ := io.ReadAll(link.Output)
						attached <- string(text)
					}()
					time.Sleep(time.Minute)
					w.boot()
					if s, err := i.Up(t.Context()); err != nil || s.Status != Running {
						t.Errorf("up: %+v, %v", s, err)
					}
					for n := range 5 { // the same in both runs
						text := lines(fmt.Sprintf("part %d, line", n), 3<<10)
						w.say(text)
						said[run] += text
						time.Sleep(2 * longestPace)
					}
					w.end(6 + run)
					// Of a run that is over there is what was shown in the end.
					over := gap + said[1][len(said[1])-w.width+len(api.FormatExitOf("1", api.Exit{Status: 7})):]
					want := said[run]
					if run == 2 {
						want = over + want
					}
					if got := wait(); got != want {
						t.Errorf("run %d: followed %d bytes, not %d: %.2000q", run, len(got), len(want), got)
					}
					if got := <-attached; got != said[run] {
						t.Errorf("run %d: attached, got %d bytes, not %d: %.2000q", run, len(got), len(said[run]), got)
					}
					other, err := all.Get("web")
					if err != nil {
						t.Fatal(err)
					}
					if got := logs(t, other, -1); got != strings.Repeat(over, run) {
						t.Errorf("run %d: then there are %d bytes, not %d: %.2000q", run, len(got), run*len(over), got)
					}
					last, err := link.Wait(t.Context())
					if err != nil || last.Status != Exited || last.Exit.Status != 6+run {
						t.Errorf("run %d: %+v, %v", run, last, err)
					}
					if _, s := fares(t, all); s.Exit.Status != 6+run || s.Status != Exited {
						t.Errorf("run %d: another process sees %+v", run, s)
					}
				}
			})
		})
	}
}

// TestWindowMissed: what nobody could see is told to be missing.
func TestWindowMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &windowing{width: 4 << 10}
		all, i := windowed(t, w)
		w.boot()
		wait := follow(t, all, -1)
		time.Sleep(time.Minute)
		w.say("hello")
		time.Sleep(time.Minute)
		burst := lines("burst", 20<<10)
		w.say("\n" + burst)
		time.Sleep(time.Minute)
		w.say("the end\n")
		seen := burst[len(burst)-4<<10:]
		if got, want := logs(t, i, -1), gap+seen[len("the end\n"):]+"the end\n"; got != want {
			t.Errorf("later, it has said %.300q", got)
		}
		if got := logs(t, i, 2); got != burst[strings.LastIndexByte(burst[:len(burst)-1], '\n')+1:]+"the end\n" {
			t.Errorf("its last lines are %q", got)
		}
		if err := i.Stop(t.Context(), -1); err != nil {
			t.Fatal(err)
		}
		if got, want := wait(), "hello\n"+gap+seen+"the end\n"; got != want {
			t.Errorf("followed: %.300q", got)
		}
		kept := logs(t, i, -1)
		if _, err := i.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The old console's end is nothing of the new run's.
		if s, err := i.Up(t.Context()); err != nil || s.Status != Running {
			t.Errorf("up: %+v, %v", s, err)
		}
		if got := logs(t, i, -1); got != kept {
			t.Errorf("before the second run has begun: %d bytes, not %d", len(got), len(kept))
		}
		w.boot()
		w.say("again\n")
		if got := logs(t, i, -1); got != kept+"again\n" {
			t.Errorf("in the second run: %q", got[min(len(got), len(kept)):])
		}
	})
}

// TestWindowTail: the last lines, and what comes.
func TestWindowTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &windowing{width: 4 << 10}
		all, _ := windowed(t, w)
		w.boot()
		w.say("one\ntwo\nthree\n")
		wait := follow(t, all, 2)
		time.Sleep(time.Minute)
		w.say("four\nfi")
		time.Sleep(time.Minute)
		w.say("ve")
		w.end(0)
		if got := wait(); got != "two\nthree\nfour\nfive" {
			t.Errorf("got %q", got)
		}
	})
}

// TestLastWords: the exit report comes late, or never.
func TestLastWords(t *testing.T) {
	for name, c := range map[string]struct {
		late   time.Duration
		kill   bool
		status Status
		exit   int
	}{
		"late":     {10 * time.Second, false, Exited, 7},
		"too late": {time.Hour, false, Dead, ExitPanic},
		"killed":   {time.Hour, true, Exited, ExitKilled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &windowing{width: 4 << 10}
				all, i := windowed(t, w)
				w.boot()
				if _, err := i.Up(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.late = c.late
				if c.kill {
					if err := i.Kill(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				w.end(7)
				// Who has no time learns it later.
				hurried, cancel := context.WithTimeout(t.Context(), time.Second)
				err := i.Observe(hurried)
				cancel()
				if (err == nil) != c.kill {
					t.Errorf("at once: %+v, %v", i.State, err)
				}
				if c.late > lastWords && !c.kill {
					if list := Survey(t.Context(), []*Instance{i}); len(list) != 1 || i.State.Status != Unknown || !strings.Contains(i.State.Reason, "last words") {
						t.Errorf("in a survey: %+v", i.State)
					}
				}
				time.Sleep(lastWords)
				hurried, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				other, err := all.Get("web")
				if err == nil {
					err = other.Observe(hurried)
				}
				if s := other.State; err != nil || s.Status != c.status || s.Exit.Status != c.exit {
					t.Errorf("later: %+v, %v", s, err)
				}
			})
		})
	}
}

// TestHeard: who has read the exit report in time knows it, whatever somebody
// else took the end for.
func TestHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &windowing{width: 4 << 10, hides: true}
		all, i := windowed(t, w)
		w.boot()
		w.say("words")
		wait := follow(t, all, -1)
		link, err := i.Attach(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, link.Output)
		w.say(string(api.FormatExit(api.Exit{Status: 7})))
		time.Sleep(2 * longestPace)
		w.mu.Lock()
		w.on = false
		w.mu.Unlock()
		deaf, err := all.Get("web")
		if err != nil {
			t.Fatal(err)
		}
		observed := make(chan error)
		go func() { observed <- deaf.Observe(t.Context()) }()
		synctest.Wait()
		if err := i.set(State{Status: Dead, Started: i.State.Started, Exit: api.Exit{Status: ExitPanic}, Finished: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if got := wait(); got != "words" {
			t.Errorf("got %q", got)
		}
		if last, err := link.Wait(t.Context()); err != nil || last.Status != Exited || last.Exit.Status != 7 {
			t.Errorf("attached: %+v, %v", last, err)
		}
		if err := <-observed; err != nil || deaf.State.Exit.Status != 7 {
			t.Errorf("who has not heard it: %+v, %v", deaf.State, err)
		}
		if _, s := fares(t, all); s.Status != Exited || s.Exit.Status != 7 {
			t.Errorf("it is %+v", s)
		}
	})
}

// TestWaitRemoves: who waits for an instance that goes when it ends learns how it
// has ended, whether it has by then or not.
func TestWaitRemoves(t *testing.T) {
	for _, after := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := &windowing{width: 4 << 10}
			all, i := windowed(t, w)
			i.Config.Remove = true
			err := writeJSON(filepath.Join(i.Dir, configFile), i.Config)
			if err == nil {
				i, err = all.Get("web")
			}
			if err != nil {
				t.Fatal(err)
			}
			w.boot()
			ending := time.AfterFunc(after, func() { w.end(7) })
			defer ending.Stop()
			synctest.Wait()
			if last, err := i.Wait(t.Context()); err != nil || last.Status != Exited || last.Exit.Status != 7 {
				t.Errorf("ended after %v: %+v, %v", after, last, err)
			}
			if _, err := all.Get("web"); !errors.Is(err, ErrNotFound) {
				t.Errorf("ended after %v, it is left: %v", after, err)
			}
		})
	}
}

// TestHalfAReport: what may be the beginning of an exit report is no output, and
// is output after a time.
func TestHalfAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &windowing{width: 4 << 10}
		all, _ := windowed(t, w)
		w.boot()
		wait := follow(t, all, -1)
		time.Sleep(time.Minute)
		w.say("words\ncapstan-ex")
		time.Sleep(time.Minute)
		w.say("\nmore")
		report := string(api.FormatExit(api.Exit{Status: 3}))
		w.say(report[:4])
		time.Sleep(longestPace)
		w.say(report[4:])
		w.mu.Lock()
		w.on = false
		w.mu.Unlock()
		if got := wait(); got != "words\ncapstan-ex\nmore" {
			t.Errorf("got %q", got)
		}
	})
}

func TestLastLines(t *testing.T) {
	text := lines("line", 300<<10) + "and half"
	all := slices.Collect(strings.Lines(text))
	for _, n := range []int{0, 1, 2, 1000, len(all), len(all) + 1} {
		for _, step := range []int{7, 4 << 10, len(text)} {
			var out bytes.Buffer
			l := &lastLines{w: &out, n: n}
			for piece := range slices.Chunk([]byte(text), step) {
				if _, err := l.Write(piece); err != nil || out.Len() > 0 {
					t.Fatalf("%v, %d bytes", err, out.Len())
				}
			}
			if err := l.release(); err != nil {
				t.Fatal(err)
			}
			io.WriteString(l, " a line")
			want := strings.Join(all[max(0, len(all)-n):], "") + " a line"
			if got := out.String(); got != want {
				t.Errorf("%d lines in pieces of %d: %d bytes, not %d", n, step, len(got), len(want))
			}
		}
	}
}
