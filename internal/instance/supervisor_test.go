package instance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// script is a driver whose machines say given things and end; one whose
// report is nil runs until it is killed. Real machines are test/e2e's.
type script struct {
	output  string
	reports []*api.Exit // one a start, the last one for all that follow
	fail    error
	detail  string // of the machine's end

	mu     sync.Mutex
	starts int
}

func (d *script) Name() string                          { return "script" }
func (d *script) Capabilities() hypervisor.Capabilities { return hypervisor.Capabilities{} }
func (d *script) Check(context.Context) error           { return nil }
func (d *script) Start(context.Context, *hypervisor.Spec) (hypervisor.Machine, error) {
	if d.fail != nil {
		return nil, d.fail
	}
	d.mu.Lock()
	report := d.reports[min(d.starts, len(d.reports)-1)]
	d.starts++
	d.mu.Unlock()
	host, guest := net.Pipe()
	control, far := net.Pipe()
	m := &scripted{console: host, control: control, gone: make(chan struct{}), detail: d.detail, cause: hypervisor.PoweredOff}
	far.Close() // a guest without the REST API
	go func() {
		io.WriteString(guest, d.output)
		if report == nil {
			<-m.gone
		} else {
			guest.Write(api.FormatExit(*report))
			m.end(hypervisor.PoweredOff)
		}
		guest.Close()
	}()
	return m, nil
}

type scripted struct {
	console, control net.Conn
	once             sync.Once
	gone             chan struct{}
	cause            hypervisor.Cause
	detail           string
}

func (m *scripted) end(c hypervisor.Cause)          { m.once.Do(func() { m.cause = c; close(m.gone) }) }
func (m *scripted) Console() io.ReadWriter          { return m.console }
func (m *scripted) Control() io.ReadWriteCloser     { return m.control }
func (m *scripted) Ports() []hypervisor.Port        { return nil }
func (m *scripted) Accel() (string, string)         { return "none", "" }
func (m *scripted) PID() int                        { return 0 }
func (m *scripted) Powerdown(context.Context) error { m.end(hypervisor.PoweredOff); return nil }
func (m *scripted) Kill() error                     { m.end(hypervisor.Killed); return nil }
func (m *scripted) Wait() hypervisor.End {
	<-m.gone
	return hypervisor.End{Cause: m.cause, Detail: m.detail}
}

func create(t *testing.T, cfg Config) (*Instances, *Instance) {
	t.Helper()
	all := Under(t.TempDir(), nil)
	cfg.ID, cfg.Created = NewID(), time.Now()
	i, err := all.Create(cfg, func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return all, i
}

// start runs the supervisor in this process; done returns its error.
func start(t *testing.T, i *Instance, d hypervisor.Driver) (Ready, func() error) {
	t.Helper()
	return startAttached(t, i, d, nil)
}

// startAttached is start by somebody who is going to connect.
func startAttached(t *testing.T, i *Instance, d hypervisor.Driver, attached <-chan struct{}) (Ready, func() error) {
	t.Helper()
	ready, done := make(chan Ready, 1), make(chan error, 1)
	go func() {
		done <- Supervise(context.Background(), i.Dir, Boot{Driver: func(string) (hypervisor.Driver, error) { return d, nil }, Log: DefaultLog, Attached: attached}, func(r Ready) { ready <- r })
	}()
	select {
	case r := <-ready:
		return r, func() error { return <-done }
	case <-time.After(time.Minute):
		t.Fatal("the supervisor never said how it went")
		return Ready{}, nil
	}
}

func TestEnds(t *testing.T) {
	for name, report := range map[string]api.Exit{
		"good":   {},
		"bad":    {Status: 42},
		"signal": {Status: 139, Signal: 11},
		"oom":    {Status: 137, Signal: 9, OOM: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, i := create(t, Config{Name: "one"})
			r, done := start(t, i, &script{output: "some\nwords", reports: []*api.Exit{&report}})
			if r.State == nil || r.State.Status != Running {
				t.Fatalf("not ready: %+v", r)
			}
			if err := done(); err != nil {
				t.Fatal(err)
			}
			if err := i.Refresh(); err != nil {
				t.Fatal(err)
			}
			if i.State.Status != Exited || i.State.Exit != report {
				t.Errorf("state %+v, want %+v", i.State, report)
			}
			var log bytes.Buffer
			if err := i.CopyLog(&log, 0); err != nil || log.String() != "some\nwords" {
				t.Errorf("log %q, %v", &log, err)
			}
		})
	}
}

func TestWithoutReport(t *testing.T) {
	_, i := create(t, Config{Name: "one"})
	_, done := start(t, i, &script{reports: []*api.Exit{nil}, detail: "kernel panic: sysrq triggered crash"})
	if err := i.Stop(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	done()
	i.Refresh()
	if i.State.Status != Dead || i.State.Exit.Status != ExitPanic || i.State.Reason != "kernel panic: sysrq triggered crash" {
		t.Errorf("state %+v", i.State)
	}
}

func TestKillAndWait(t *testing.T) {
	_, i := create(t, Config{Name: "one"})
	_, done := start(t, i, &script{output: "up\n", reports: []*api.Exit{nil}})
	waited := make(chan State, 1)
	go func() {
		state, err := i.Wait(context.Background())
		if err != nil {
			t.Error(err)
		}
		waited <- state
	}()
	var out bytes.Buffer
	followed := make(chan error, 1)
	go func() { followed <- i.Follow(context.Background(), &out, 0) }()
	if err := Supervise(context.Background(), i.Dir, Boot{Log: DefaultLog}, func(Ready) {}); !errors.Is(err, ErrRunning) {
		t.Errorf("a second supervisor: %v", err)
	}
	if err := i.Remove(t.Context()); err == nil {
		t.Error("a running instance was removed")
	}
	if err := i.Kill(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if state := <-waited; state.Exit.Status != ExitKilled {
		t.Errorf("waited for %+v", state)
	}
	if err := <-followed; err != nil || out.String() != "up\n" {
		t.Errorf("followed %q, %v", out.String(), err)
	}
	i.Refresh()
	if err := i.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRestarts(t *testing.T) {
	bad, good := &api.Exit{Status: 1}, &api.Exit{}
	unstarted := &api.Exit{Status: 127, Reason: "there is no such program"}
	for _, c := range []struct {
		name    string
		policy  Restart
		reports []*api.Exit
		starts  int
	}{
		{"no", Restart{}, []*api.Exit{bad}, 1},
		{"bounded", Restart{"on-failure", 2}, []*api.Exit{bad}, 3},
		{"not started", Restart{"always", 0}, []*api.Exit{unstarted}, 1},
		{"until good", Restart{"on-failure", 0}, []*api.Exit{bad, bad, good}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, i := create(t, Config{Name: "one", Restart: c.policy})
			d := &script{reports: c.reports}
			_, done := start(t, i, d)
			if err := done(); err != nil {
				t.Fatal(err)
			}
			i.Refresh()
			if d.starts != c.starts || i.State.Restarts != c.starts-1 {
				t.Errorf("%d starts, state %+v", d.starts, i.State)
			}
		})
	}
}

// Up tells how an application ended that could not be started, and says so of
// a machine that ended before it could tell.
func TestUp(t *testing.T) {
	for name, report := range map[string]*api.Exit{
		"not started": {Status: 127, Reason: "there is no such program"},
		"at once":     {},
	} {
		t.Run(name, func(t *testing.T) {
			_, i := create(t, Config{Name: "one"})
			attached := make(chan struct{})
			_, done := startAttached(t, i, &script{reports: []*api.Exit{report}}, attached)
			state, err := i.Up(t.Context())
			if err != nil || state.Status != Exited || state.Exit != *report || state.Exit.Unstarted() != (report.Status != 0) {
				t.Errorf("up: %+v, %v", state, err)
			}
			close(attached)
			if err := done(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who started the instance gets its output and its end, however quickly it
// ended and late that comes, and even if the instance is removed then.
func TestAttachLate(t *testing.T) {
	_, i := create(t, Config{Name: "one", Remove: true})
	attached := make(chan struct{})
	_, done := startAttached(t, i, &script{output: "words", reports: []*api.Exit{{Status: 3}}}, attached)
	for i.State.Status != Exited {
		if err := i.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	link, err := i.Attach(t.Context(), 0)
	close(attached)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(link.Output)
	link.Output.Close()
	last, waitErr := link.Wait(t.Context())
	if string(text) != "words" || err != nil || last.Exit.Status != 3 || waitErr != nil {
		t.Errorf("got %q, %v and %+v, %v", text, err, last, waitErr)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(i.Dir); err == nil {
		t.Error("it is still there")
	}
}

func TestCannotStart(t *testing.T) {
	_, i := create(t, Config{Name: "one"})
	why := &hypervisor.UnavailableError{Platform: "qemu", Reason: "it is not installed", Remedy: "install it"}
	r, done := start(t, i, &script{fail: why})
	if r.State != nil || !strings.Contains(r.Error, "not installed") || r.Hint != "install it" {
		t.Errorf("ready %+v", r)
	}
	if err := done(); err == nil {
		t.Error("no error")
	}
}

// A supervisor that was killed leaves "running" behind, and a free lock.
func TestAfterKilledSupervisor(t *testing.T) {
	all, i := create(t, Config{Name: "one"})
	writeJSON(filepath.Join(i.Dir, stateFile), State{Status: Running, Started: time.Now()})
	_, gone := create(t, Config{Name: "two", Remove: true})
	gone.maker.Close()
	os.Rename(gone.Dir, filepath.Join(filepath.Dir(i.Dir), "two"))
	writeJSON(filepath.Join(filepath.Dir(i.Dir), "two", stateFile), State{Status: Running})
	half := filepath.Join(filepath.Dir(i.Dir), unfinished+"x")
	os.Mkdir(half, 0o700)
	old := time.Now().Add(-time.Hour)
	os.Chtimes(half, old, old)

	list, err := all.List()
	if err != nil || len(list) != 1 || list[0].State.Status != Dead || list[0].State.Exit.Status != ExitLost {
		t.Fatalf("list %+v, %v", list, err)
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("a half-made directory stayed")
	}
	if _, err := all.Get(i.Config.ID[:6]); err != nil {
		t.Error(err)
	}
	if _, err := all.Get("three"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := all.Create(Config{ID: NewID(), Name: "one"}, func(string) error { return nil }); !errors.Is(err, ErrExists) {
		t.Errorf("a name taken twice: %v", err)
	}
}

// The socket works however long the path to the instance is.
func TestLongPath(t *testing.T) {
	all := Under(filepath.Join(t.TempDir(), strings.Repeat("d", 100)), nil)
	i, err := all.Create(Config{ID: NewID(), Name: strings.Repeat("n", 63)}, func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	_, done := start(t, i, &script{reports: []*api.Exit{nil}})
	if err := i.Kill(context.Background()); err != nil {
		t.Error(err)
	}
	done()
}

// TestSystem: a machine that runs a system of its own has no guest to ask: it
// is stopped by its power button, pressed until it listens, or killed.
func TestSystem(t *testing.T) {
	for name, tt := range map[string]struct {
		deaf int // to so many presses
		want State
	}{
		"listens":     {0, State{Status: Exited}},
		"still boots": {2, State{Status: Exited}},
		"never will":  {1 << 30, State{Status: Exited, Exit: api.Exit{Status: ExitKilled, Signal: 9}, Reason: "killed"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Name: "own"}
			cfg.Machine.System = &hypervisor.System{Disk: "disk.qcow2", Base: "base.disk"}
			_, i := create(t, cfg)
			d := &systemDriver{script: script{reports: []*api.Exit{nil}}, deaf: tt.deaf}
			r, done := start(t, i, d)
			if r.State == nil {
				t.Fatalf("not ready: %+v", r)
			}
			if want := filepath.Join(i.Dir, "disk.qcow2"); d.spec.System.Disk != want {
				t.Errorf("its disk is %s, want %s", d.spec.System.Disk, want)
			}
			if err := i.Signal(context.Background(), "HUP"); err == nil || !strings.Contains(err.Error(), "a system of its own") {
				t.Errorf("Signal: %v", err)
			}
			if err := i.Stop(context.Background(), 4); err != nil {
				t.Error(err)
			}
			if err := done(); err != nil {
				t.Error(err)
			}
			if err := i.Refresh(); err != nil {
				t.Fatal(err)
			}
			got := State{Status: i.State.Status, Exit: i.State.Exit, Reason: i.State.Reason}
			if got.Status != tt.want.Status || got.Exit != tt.want.Exit || got.Reason != tt.want.Reason {
				t.Errorf("it ended as %+v, want %+v", got, tt.want)
			}
		})
	}
}

// systemDriver starts machines without a control channel.
type systemDriver struct {
	script
	deaf int
	spec *hypervisor.Spec
}

func (d *systemDriver) Start(ctx context.Context, spec *hypervisor.Spec) (hypervisor.Machine, error) {
	d.spec = spec
	m, err := d.script.Start(ctx, spec)
	return &systemMachine{m, d}, err
}

type systemMachine struct {
	hypervisor.Machine
	d *systemDriver
}

func (m *systemMachine) Control() io.ReadWriteCloser { return nil }
func (m *systemMachine) Powerdown(ctx context.Context) error {
	if m.d.deaf > 0 {
		m.d.deaf--
		return nil
	}
	return m.Machine.Powerdown(ctx)
}
