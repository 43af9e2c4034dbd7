package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// The output of an instance on a remote platform is read from there, by asking
// again and again: such platforms tell nobody that there is more.

const (
	// upRemote bounds the wait for a machine's first report: its hypervisor
	// may have others to start, and firmware takes its time.
	upRemote = 3 * time.Minute

	// lastWords bounds the wait for the exit report of a machine that is off,
	// where the platform may show it later.
	lastWords = 20 * time.Second

	// half is how long half an exit report may be all that is seen of it: one
	// question sees a part, and the next the whole.
	half = 3 * longestPace
)

// pace is the time between two questions to a platform. It grows while the
// answers stay the same.
type pace struct{ wait time.Duration }

const shortestPace, longestPace = 250 * time.Millisecond, 4 * time.Second

func (p *pace) rest(ctx context.Context) error {
	p.wait = min(max(shortestPace, p.wait*3/2), longestPace)
	select {
	case <-time.After(p.wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pace) quicken() { p.wait = 0 }

// address is the running machine's: the platform's word, else the guest's.
func (i *Instance) address(ctx context.Context, h hypervisor.Handle, status hypervisor.RemoteStatus) (string, error) {
	if status.Address.IsValid() {
		return status.Address.String(), nil
	}
	if i.State.Live() && i.State.Address != "" {
		return i.State.Address, nil
	}
	b, _, err := i.begun(ctx, h)
	return b.Address, err
}

// upRemote waits until the application was started, or the machine has ended.
func (i *Instance) upRemote(ctx context.Context) (State, error) {
	if i.Group() {
		return i.upGroup(ctx)
	}
	h, err := i.handle()
	if err != nil {
		return State{}, err
	}
	return i.awaitUp(ctx, func(ctx context.Context) (bool, error) {
		_, ok, err := i.begun(ctx, h)
		return ok, err
	})
}

// awaitUp asks until the instance is up, or its machine has ended.
func (i *Instance) awaitUp(ctx context.Context, isUp func(context.Context) (bool, error)) (State, error) {
	bound, cancel := context.WithTimeout(ctx, upRemote)
	defer cancel()
	for p := (pace{}); ; {
		up, err := isUp(bound)
		if err == nil {
			if err = i.Observe(bound); err == nil && (up || !i.State.Live()) {
				return i.State, nil
			}
		}
		if err == nil {
			err = p.rest(bound)
		}
		switch {
		case ctx.Err() != nil:
			return State{}, ctx.Err()
		case bound.Err() != nil:
			return i.State, nil // it runs: more is not known
		case err != nil:
			return State{}, err
		}
	}
}

// waitRemote waits until the machine is off.
func (i *Instance) waitRemote(ctx context.Context) (State, error) {
	for p := (pace{}); ; {
		err := i.Observe(ctx)
		if errors.Is(err, ErrNotFound) && i.State.ended() {
			return i.State, nil // it was to be removed, and is
		}
		if err != nil || !i.State.Live() {
			return i.State, err
		}
		if err := p.rest(ctx); err != nil {
			return State{}, err
		}
	}
}

// copyRun copies the application's output in its current or last run to w; with
// follow, until the machine is off and has said all. caughtUp is called whenever
// all is copied that there is.
func (i *Instance) copyRun(ctx context.Context, w io.Writer, h hypervisor.Handle, follow bool, caughtUp func() error) error {
	out := &unreported{w: w}
	if err := i.readRun(ctx, out, h, follow, caughtUp); err != nil {
		return err
	}
	_, _, err := out.end()
	return err
}

func (i *Instance) readRun(ctx context.Context, out *unreported, h hypervisor.Handle, follow bool, caughtUp func() error) error {
	t, err := i.transcript(h)
	if err != nil {
		return err
	}
	heard, last := time.Now(), !follow
	for p := (pace{}); ; {
		// Asked first: what is said by then is read afterwards.
		status, err := i.remote.Status(ctx, h)
		if err != nil && !errors.Is(err, hypervisor.ErrGone) {
			return err
		}
		if !status.On && !last {
			last = true
			if _, e, ok := api.ParseExit(out.held); ok {
				i.heard = &e
			}
			if err := i.settle(ctx); err != nil {
				return err
			}
		}
		n, err := t.copy(ctx, out, !status.On)
		switch {
		case err != nil:
			return err
		case n > 0:
			heard = time.Now()
			p.quicken()
		case out.doubtful() && time.Since(heard) > half:
			if err := out.release(); err != nil {
				return err
			}
		}
		if err := caughtUp(); err != nil || last {
			return err
		}
		if err := p.rest(ctx); err != nil {
			return err
		}
	}
}

// settle waits until the end of a machine that is off is known: till then it
// may have something to say. Of a group's machine nothing more is learnt.
func (i *Instance) settle(ctx context.Context) error {
	if _, ok := i.remote.Remote.(member); ok {
		return nil
	}
	err := i.learn(ctx)
	if errors.Is(err, ErrNotFound) {
		return nil // removed by who knows its end
	}
	return err
}

// attachRemote is Attach for an instance on a remote platform.
func (i *Instance) attachRemote(ctx context.Context) (*Attachment, error) {
	h, err := i.handle()
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	own, read := *i, make(chan struct{}) // whoever stops it meanwhile learns how it fares
	go func() {                          // ends when the reader closes
		defer close(read)
		w.CloseWithError(own.copyRun(ctx, w, h, true, caughtUp))
	}()
	return &Attachment{Output: r, inst: &own, read: read}, nil
}

// caughtUp is of no interest.
func caughtUp() error { return nil }

// LogOptions are what is wanted of an instance's output.
type LogOptions struct {
	Kernel bool      // the guest kernel's messages in the place of the application's output
	Follow bool      // and what comes, until the instance ends
	Tail   int       // of what there is, the last lines; negative: all
	Since  time.Time // what came then or later; the zero Time: all
}

// Logs copies an instance's output to w.
func (i *Instance) Logs(ctx context.Context, w io.Writer, o LogOptions) error {
	if i.Group() {
		return i.logsGroup(ctx, w, o)
	}
	if i.remote != nil {
		return i.logsRemote(ctx, w, o)
	}
	if o.Kernel {
		return copyFile(w, i.KernelPath())
	}
	var offset int64
	var err error
	if !o.Since.IsZero() {
		offset, err = i.OffsetSince(o.Since)
	}
	if err == nil && o.Tail >= 0 {
		var at int64
		at, err = i.OffsetTail(o.Tail)
		offset = max(offset, at)
	}
	if err != nil {
		return err
	}
	if o.Follow && i.State.Live() {
		err := i.Follow(ctx, w, offset)
		if !errors.Is(err, ErrNotRunning) {
			return err
		}
	}
	return i.CopyLog(w, offset)
}

// copyFile copies a file; one that does not exist yet is empty.
func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func (i *Instance) logsRemote(ctx context.Context, w io.Writer, o LogOptions) error {
	if !o.Since.IsZero() {
		return &hypervisor.CannotError{Platform: i.remote.Name(), What: "tell when something was printed", Remedy: "--tail N shows the last lines"}
	}
	h, err := i.handle()
	if err != nil {
		return err
	}
	if o.Kernel {
		if h == nil {
			return nil
		}
		t, err := i.transcript(h)
		if err != nil {
			return err
		}
		t.kernel, t.began = true, true
		_, err = t.copy(ctx, w, true)
		return err
	}
	last := &lastLines{w: w, n: o.Tail, all: o.Tail < 0}
	if err := i.CopyLog(last, 0); err != nil {
		return err
	}
	if h != nil && (i.State.Live() || i.State.ended()) {
		if err := i.copyRun(ctx, last, h, o.Follow && i.State.Live(), last.release); err != nil {
			return err
		}
	}
	return last.release()
}

// lastLines passes on the last n lines of what is written to it before it is
// released, and then all.
type lastLines struct {
	w    io.Writer
	n    int
	all  bool
	held []byte
	full int // how much is held before more than n lines are let go
}

func (l *lastLines) Write(p []byte) (int, error) {
	if l.all {
		return l.w.Write(p)
	}
	l.held = append(l.held, p...)
	if len(l.held) > l.full {
		l.held = append([]byte(nil), l.last()...)
		l.full = 2*len(l.held) + longestLine
	}
	return len(p), nil
}

// last are the last n lines. One that has no end yet is one, too.
func (l *lastLines) last() []byte {
	begin := len(l.held)
	for n := 0; n < l.n && begin > 0; n++ {
		begin = bytes.LastIndexByte(l.held[:begin-1], '\n') + 1
	}
	return l.held[begin:]
}

func (l *lastLines) release() error {
	if l.all {
		return nil
	}
	l.all = true
	_, err := l.w.Write(l.last())
	l.held = nil
	return err
}
