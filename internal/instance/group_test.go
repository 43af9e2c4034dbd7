package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// groups is a platform in memory that keeps one group. Each of its machines
// says who it is in the end of a console. The clouds' drivers have tests of
// their own.
type groups struct {
	hypervisor.Remote // nothing else is called

	mu       sync.Mutex
	wanted   int
	made     int
	members  []hypervisor.Member
	consoles map[string]string
	fail     error
	trouble  string // why there come no more than there are
	gone     bool
}

func (g *groups) Name() string                          { return "groups" }
func (g *groups) Capabilities() hypervisor.Capabilities { return hypervisor.Capabilities{Away: true} }

func (g *groups) Create(_ context.Context, spec *hypervisor.RemoteSpec, keep func(hypervisor.Handle) error) error {
	if spec.Replicas != 3 {
		return fmt.Errorf("asked for %d machines", spec.Replicas)
	}
	return keep(hypervisor.Handle(`{"group":"g"}`))
}

func (g *groups) Scale(_ context.Context, _ hypervisor.Handle, replicas int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail != nil {
		return g.fail
	}
	g.set(replicas)
	return nil
}

func (g *groups) set(replicas int) {
	g.wanted = replicas
	for len(g.members) < replicas && g.trouble == "" {
		g.made++
		id := fmt.Sprintf("m%d", g.made)
		g.members = append(g.members, hypervisor.Member{
			ID: id, Status: "InService", On: true, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(g.made)}),
		})
		g.consoles[id] = "firmware\n" + string(api.FormatBegin(api.Begin{})) + "hello\nI am " + id
	}
	g.members = slices.Clone(g.members[:min(replicas, len(g.members))])
}

func (g *groups) Status(context.Context, hypervisor.Handle) (hypervisor.RemoteStatus, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return hypervisor.RemoteStatus{}, hypervisor.ErrGone
	}
	return hypervisor.RemoteStatus{On: len(g.members) > 0, Replicas: g.wanted, Members: slices.Clone(g.members), Trouble: g.trouble}, nil
}

func (g *groups) Stop(context.Context, hypervisor.Handle, time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.set(0)
	return nil
}

func (g *groups) Console(_ context.Context, _ hypervisor.Handle, part hypervisor.ConsolePart) (*hypervisor.Console, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	text, ok := g.consoles[part.Member]
	if !ok {
		return nil, fmt.Errorf("%q: %w", part.Member, hypervisor.ErrGone)
	}
	at := min(part.Offset, int64(len(text)))
	if part.Offset < 0 {
		at = max(0, int64(len(text))+part.Offset)
	}
	return &hypervisor.Console{ReadCloser: io.NopCloser(strings.NewReader(text[at:])), Offset: at}, nil
}

func (g *groups) Remove(context.Context, hypervisor.Handle) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
	return nil
}

// newGroup makes a group of three machines, which is started.
func newGroup(t *testing.T) (*groups, *Instances, *Instance) {
	t.Helper()
	g := &groups{consoles: map[string]string{}}
	all := Under(t.TempDir(), nil).With(Remotes{Platforms: []hypervisor.Remote{g}, Log: DefaultLog})
	i, err := all.Create(Config{ID: NewID(), Name: "web", Created: time.Now(), Platform: "groups", Replicas: 3}, func(string) error { return nil })
	if err == nil {
		err = i.Make(t.Context(), hypervisor.RemoteSpec{})
	}
	if err == nil {
		_, err = i.Start(t.Context())
	}
	if err == nil {
		_, err = i.Up(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return g, all, i
}

// fares is how the group fares, as another process learns it.
func fares(t *testing.T, all *Instances) (*Instance, State) {
	t.Helper()
	i, err := all.Get("web")
	if err == nil {
		err = i.Observe(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return i, i.State
}

func TestGroup(t *testing.T) {
	g, all, _ := newGroup(t)
	i, s := fares(t, all)
	if s.Status != Running || s.Replicas != 3 || s.On() != 3 || s.Members[2].Address.String() != "192.0.2.3" {
		t.Errorf("started: %+v", s)
	}
	if _, err := i.Start(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("started twice: %v", err)
	}
	if err := i.Remove(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("removed while it runs: %v", err)
	}
	if err := i.Scale(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if _, s := fares(t, all); s.Replicas != 5 || s.On() != 5 {
		t.Errorf("scaled to 5: %+v", s)
	}

	g.mu.Lock()
	g.set(2) // in the cloud's own console
	g.mu.Unlock()
	i, s = fares(t, all)
	if s.Replicas != 2 || s.On() != 2 {
		t.Errorf("scaled by another: %+v", s)
	}

	if err := i.Stop(t.Context(), -1); err != nil {
		t.Fatal(err)
	}
	i, s = fares(t, all)
	if s.Status != Exited || s.Exit.Status != 0 || s.On() != 0 || s.Replicas != 2 || s.Finished.IsZero() {
		t.Errorf("stopped: %+v", s)
	}
	if err := i.Stop(t.Context(), -1); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stopped twice: %v", err)
	}
	if err := i.Scale(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	i, s = fares(t, all)
	if g.wanted != 0 || s.Status != Exited {
		t.Errorf("scaling what is stopped started it: %+v", s)
	}
	if _, err := i.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i, s = fares(t, all); s.Status != Running || s.On() != 4 {
		t.Errorf("started again: %+v", s)
	}
	if err := i.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := i.Remove(t.Context()); err != nil || !g.gone {
		t.Errorf("removed: %v", err)
	}
	if _, err := all.Get("web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its removal: %v", err)
	}
}

// TestGroupTrouble: a group that its platform cannot make as large as it is to
// be runs, and says why there are no more of it; nobody waits for those.
func TestGroupTrouble(t *testing.T) {
	g, all, i := newGroup(t)
	g.trouble = "there is no capacity"
	if err := i.Scale(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	i, s := fares(t, all)
	if s.Status != Running || s.On() != 3 || s.Reason != g.trouble {
		t.Errorf("it could not grow: %+v", s)
	}
	if s, err := i.Up(t.Context()); err != nil || s.Reason != g.trouble {
		t.Errorf("waited for: %+v, %v", s, err)
	}
	kept, err := all.Get("web") // as no question shows it
	if err != nil || kept.State.Reason != g.trouble {
		t.Errorf("kept: %+v, %v", kept, err)
	}
	g.mu.Lock()
	g.set(2) // of which there is no trouble, whatever there was
	g.mu.Unlock()
	if _, s := fares(t, all); s.Reason != "" || s.On() != 2 {
		t.Errorf("it is whole: %+v", s)
	}
	if err := i.Stop(t.Context(), -1); err != nil {
		t.Fatal(err)
	}
	if _, s := fares(t, all); s.Status != Exited || s.Reason != "" {
		t.Errorf("stopped: %+v", s)
	}
}

// TestGroupRefused: what the cloud refuses changes nothing here.
func TestGroupRefused(t *testing.T) {
	g, all, _ := newGroup(t)
	quota := errors.New("the quota is used up")
	g.fail = quota
	i, _ := fares(t, all)
	if err := i.Scale(t.Context(), 9); !errors.Is(err, quota) {
		t.Errorf("scaled: %v", err)
	}
	if _, s := fares(t, all); s.Replicas != 3 {
		t.Errorf("refused, it is %+v", s)
	}
	if err := i.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	i, _ = fares(t, all)
	if _, err := i.Start(t.Context()); !errors.Is(err, quota) {
		t.Errorf("started: %v", err)
	}
	if _, s := fares(t, all); s.Status != Exited || s.Replicas != 3 {
		t.Errorf("refused its start, it is %+v", s)
	}
	g.gone = true
	i, s := fares(t, all)
	if s.Status != Dead {
		t.Errorf("gone, it is %+v", s)
	}
	if err := i.Scale(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("gone, it was scaled: %v", err)
	}
}

func TestScaleOneMachine(t *testing.T) {
	_, i := create(t, Config{Name: "one"})
	if err := i.Scale(t.Context(), 2); !errors.Is(err, ErrNoGroup) {
		t.Errorf("got %v", err)
	}
}

// sorted are a text's lines in order: machines speak at once.
func sorted(text string) string {
	return strings.Join(slices.Sorted(strings.Lines(text)), "")
}

func TestGroupLogs(t *testing.T) {
	_, all, _ := newGroup(t)
	i, _ := fares(t, all)
	for tail, want := range map[int]string{
		-1: "m1 I am m1\nm1 hello\nm2 I am m2\nm2 hello\nm3 I am m3\nm3 hello\n",
		1:  "m1 I am m1\nm2 I am m2\nm3 I am m3\n",
	} {
		var said bytes.Buffer
		if err := i.Logs(t.Context(), &said, LogOptions{Tail: tail}); err != nil || sorted(said.String()) != want {
			t.Errorf("the last %d: %v, %q", tail, err, said.String())
		}
	}
	var refused *hypervisor.CannotError
	if err := i.Logs(t.Context(), io.Discard, LogOptions{Since: time.Now()}); !errors.As(err, &refused) {
		t.Errorf("--since: %v", err)
	}
}

// TestGroupFollowed: machines that come are followed too, until all are gone.
func TestGroupFollowed(t *testing.T) {
	g, all, _ := newGroup(t)
	i, _ := fares(t, all)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := i.Logs(t.Context(), w, LogOptions{Tail: -1, Follow: true})
		w.Close()
		done <- err
	}()
	said, buf := "", make([]byte, 4<<10)
	await := func(want string) {
		t.Helper()
		for !strings.Contains(said, want) {
			n, err := r.Read(buf)
			if said += string(buf[:n]); err != nil {
				t.Fatalf("waiting for %q: %v after %q", want, err, said)
			}
		}
	}
	await("m3 hello\n")
	if err := g.Scale(t.Context(), nil, 4); err != nil {
		t.Fatal(err)
	}
	await("m4 hello\n")
	g.mu.Lock()
	g.consoles["m1"] += ", still\n"
	g.mu.Unlock()
	await("m1 I am m1, still\n")
	if err := g.Stop(t.Context(), nil, 0); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if ended := <-done; err != nil || ended != nil || !strings.Contains(said+string(rest), "m4 I am m4\n") {
		t.Errorf("in the end: %v, %v, %q", err, ended, rest)
	}
}

func TestPrefixer(t *testing.T) {
	long := strings.Repeat("x", longestLine)
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"a\n\nb\n", "m a\nm \nm b\n"},
		{"a\nb", "m a\nm b\n"},
		{long + "yz\n", "m " + long + "\nm yz\n"},
		{long + "\n", "m " + long + "\nm \n"},
	} {
		for _, step := range []int{1, 7, len(c.in) + 1} {
			var out bytes.Buffer
			l := &prefixer{w: &out, prefix: "m "}
			for piece := range slices.Chunk([]byte(c.in), step) {
				if n, err := l.Write(piece); n != len(piece) || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := l.flush(); err != nil || out.String() != c.want {
				t.Errorf("%.20q in pieces of %d: %v, %.40q", c.in, step, err, out.String())
			}
		}
	}
}
