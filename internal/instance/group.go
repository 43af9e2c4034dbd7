package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"capstan/internal/hypervisor"
)

// A group is an instance of several equal machines, which its platform keeps
// at a number of them: it replaces one that ends. So a group has no exit
// status. One that is stopped has no machines, and how many it had is kept
// here for its next start.

// Group reports whether the instance is a group of machines.
func (i *Instance) Group() bool { return i.remote != nil && i.Config.Replicas > 0 }

// ErrNoGroup is wrapped where an instance is one machine and no group.
var ErrNoGroup = errors.New("the instance is one machine, not a group")

// Scale sets how many machines a group has. One that is stopped will have as
// many once it is started.
func (i *Instance) Scale(ctx context.Context, replicas int) error {
	if !i.Group() {
		return fmt.Errorf("%s: %w", i.Config.Name, ErrNoGroup)
	}
	held, err := i.lock(ctx, patience)
	if err != nil {
		return err
	}
	defer held.Close()
	h, err := i.made()
	if err != nil {
		return err
	}
	state, err := i.look(ctx)
	if err != nil {
		return err
	}
	if state.Status == Dead {
		return fmt.Errorf("%s: %s", i.Config.Name, state.Reason)
	}
	if state.Live() {
		if err := i.setReplicas(ctx, h, replicas); err != nil {
			return err
		}
	}
	state.Replicas = replicas
	return i.set(state)
}

// setReplicas has the platform keep as many machines.
func (i *Instance) setReplicas(ctx context.Context, h hypervisor.Handle, replicas int) error {
	s, ok := i.remote.Remote.(hypervisor.Scaler)
	if !ok {
		return &hypervisor.CannotError{Platform: i.remote.Name(), What: "keep groups of machines"}
	}
	return s.Scale(ctx, h, replicas)
}

// startGroup gives a group the machines that it had, or is to have. Its lock
// must be held.
func (i *Instance) startGroup(ctx context.Context, h hypervisor.Handle, state State) (*Started, error) {
	before := State{Status: state.Status, Finished: state.Finished, Replicas: state.Replicas}
	if err := i.set(State{Status: Running, Started: time.Now(), Replicas: state.Replicas}); err != nil {
		return nil, err
	}
	if err := i.setReplicas(ctx, h, state.Replicas); err != nil {
		return nil, errors.Join(err, i.set(before))
	}
	return &Started{State: i.State}, nil
}

// group is the state of a group after what its platform tells.
func (s State) group(told hypervisor.RemoteStatus) State {
	s.Members = told.Members
	if told.Replicas > 0 {
		s.Replicas = told.Replicas // whoever has set it
	}
	switch on := told.On || told.Replicas > 0; {
	case on && !s.Live():
		s.Status, s.Started, s.Finished = Running, time.Now(), time.Time{}
	case !on && s.Live():
		s.Status, s.Finished = Exited, time.Now()
	}
	if s.Live() && !told.Started.IsZero() {
		s.Started = told.Started
	}
	s.Reason = ""
	if s.Live() && s.On() < s.Replicas {
		s.Reason = told.Trouble
	}
	return s
}

// On is how many machines of a group are on.
func (s State) On() int {
	n := 0
	for _, m := range s.Members {
		if m.On {
			n++
		}
	}
	return n
}

// upGroup waits until all machines of a group are on, or its platform says why
// they are not: it goes on trying, for as long as that may take.
func (i *Instance) upGroup(ctx context.Context) (State, error) {
	return i.awaitUp(ctx, func(ctx context.Context) (bool, error) {
		err := i.Observe(ctx)
		return i.State.On() >= i.State.Replicas || i.State.Reason != "", err
	})
}

// member is one machine of a group, as if it were the only one.
type member struct {
	hypervisor.Remote
	id string
}

func (m member) Status(ctx context.Context, h hypervisor.Handle) (hypervisor.RemoteStatus, error) {
	group, err := m.Remote.Status(ctx, h)
	if err != nil {
		return hypervisor.RemoteStatus{}, err
	}
	for _, one := range group.Members {
		if one.ID == m.id {
			return hypervisor.RemoteStatus{On: one.On, Address: one.Address}, nil
		}
	}
	return hypervisor.RemoteStatus{}, fmt.Errorf("%s: %w", m.id, hypervisor.ErrGone)
}

func (m member) Console(ctx context.Context, h hypervisor.Handle, part hypervisor.ConsolePart) (*hypervisor.Console, error) {
	part.Member = m.id
	return m.Remote.Console(ctx, h, part)
}

// logsGroup copies the output of a group's machines, each line with its
// machine's ID before it; with Follow, that of machines to come too, until the
// group is stopped.
func (i *Instance) logsGroup(ctx context.Context, w io.Writer, o LogOptions) error {
	if err := i.Observe(ctx); err != nil {
		return err
	}
	out := &sharedWriter{w: w}
	copying, ctx := errgroup.WithContext(ctx)
	known := map[string]bool{}
	begin := func(o LogOptions) {
		for _, m := range i.State.Members {
			if known[m.ID] {
				continue
			}
			known[m.ID] = true
			view := i.member(m)
			copying.Go(func() error { return view.logsMember(ctx, out, o) })
		}
	}
	begin(o)
	o.Tail = -1 // of machines to come, all
	for p := (pace{}); o.Follow && i.State.Live(); {
		if p.rest(ctx) != nil {
			break // the cause is what copying ended with, or the caller's
		}
		if err := i.Observe(ctx); err != nil {
			copying.Go(func() error { return err })
			break
		}
		begin(o)
	}
	return copying.Wait()
}

// member is the instance as the one machine m of its group is.
func (i *Instance) member(m hypervisor.Member) *Instance {
	one := *i
	one.Config.Replicas = 0
	one.remote = &remote{member{i.remote.Remote, m.ID}, i.remote.log}
	one.State = State{Status: Exited, Address: address(m.Address)}
	if m.On {
		one.State.Status = Running
	}
	return &one
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// logsMember copies the output of one machine of a group. One that the
// platform takes away meanwhile has said what it has said.
func (i *Instance) logsMember(ctx context.Context, w io.Writer, o LogOptions) error {
	lines := &prefixer{w: w, prefix: i.remote.Remote.(member).id + " "}
	err := i.logsRemote(ctx, lines, o)
	if errors.Is(err, hypervisor.ErrGone) {
		err = nil
	}
	return errors.Join(err, lines.flush())
}

// sharedWriter is written to by several goroutines.
type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// longestLine bounds what is held back of a line that does not end.
const longestLine = 64 << 10

// prefixer writes whole lines, each with a prefix and in one piece.
type prefixer struct {
	w      io.Writer
	prefix string
	line   []byte
}

func (l *prefixer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), longestLine-len(l.line))
		nl := bytes.IndexByte(rest[:n], '\n')
		if nl >= 0 {
			n = nl
		}
		l.line = append(l.line, rest[:n]...)
		rest = rest[n:]
		if nl >= 0 {
			rest = rest[1:]
		} else if len(l.line) < longestLine {
			break
		}
		if err := l.end(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (l *prefixer) end() error {
	_, err := io.WriteString(l.w, l.prefix+string(l.line)+"\n")
	l.line = l.line[:0]
	return err
}

// flush writes a last line that has no end.
func (l *prefixer) flush() error {
	if len(l.line) == 0 {
		return nil
	}
	return l.end()
}
