// Package remotetest is what every driver of a platform elsewhere must pass: a
// machine's life there, seen through package hypervisor alone. What the
// interface promises of a second call is tried by a second call.
package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// timeout bounds what a machine is waited for.
const timeout = 5 * time.Minute

// Platform is one with a driver to test. A machine's guest there says
// "kernel N" and "application N", each a line, at its Nth start, and goes on.
type Platform struct {
	// Driver makes a driver, as another process does.
	Driver func(t *testing.T) hypervisor.Remote
	// Unreachable makes one whose platform does not answer.
	Unreachable func(t *testing.T) hypervisor.Remote
	// Left lists what is on the platform that drivers have made.
	Left func(t *testing.T) []string
	// Forgets says that the platform may not tell what a machine has said that
	// is off.
	Forgets bool
	// Address is the guest's, as the platform knows it.
	Address netip.Addr
	// Secret is what logs in, and nobody else may read.
	Secret string
}

// Run runs the suite.
func Run(t *testing.T, p Platform) {
	for name, test := range map[string]func(*testing.T){
		"life":         p.life,
		"killed maker": p.killedMaker,
		"interrupted":  p.interrupted,
		"no keeping":   p.noKeeping,
		"contexts":     p.contexts,
		"damaged":      p.damaged,
		"unreachable":  p.unreachable,
		"refusals":     p.refusals,
	} {
		t.Run(name, func(t *testing.T) {
			test(t)
			if left := p.Left(t); len(left) > 0 {
				t.Errorf("left on the platform: %q", left)
			}
		})
	}
}

// driver is a driver that is closed in the end, twice.
func (p Platform) driver(t *testing.T) hypervisor.Remote {
	t.Helper()
	return closed(t, p.Driver(t))
}

func closed(t *testing.T, d hypervisor.Remote) hypervisor.Remote {
	t.Cleanup(func() {
		for range 2 {
			if err := d.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
	})
	return d
}

// diskSize is that of the disk which the suite's machines have.
const diskSize = 4 << 20

// spec is a machine's. Nothing is on its disk but some bytes.
func spec() *hypervisor.RemoteSpec {
	return &hypervisor.RemoteSpec{
		ID: "0123456789ab", Name: "suite", Image: "suite:latest", Digest: "sha256:" + strings.Repeat("0", 64),
		Guest: api.Config{Version: api.Version}, Memory: 256 << 20, CPUs: 1,
		Disk:      func(api.Config) (hypervisor.BootDisk, error) { return disk(diskSize, write), nil },
		ImageDisk: func(unit int64) (hypervisor.BootDisk, error) { return disk(max(diskSize, unit), write), nil },
	}
}

// disk is one of which there is no other of its size.
func disk(size int64, write func(context.Context, io.WriterAt) error) hypervisor.BootDisk {
	return hypervisor.BootDisk{ID: strings.Repeat(fmt.Sprintf("%08x", size), 8), Size: size, Write: write}
}

func write(ctx context.Context, w io.WriterAt) error {
	_, err := w.WriteAt(bytes.Repeat([]byte("capstan "), 8<<10), 0)
	return errors.Join(err, ctx.Err())
}

// create makes a machine, and returns the handles that were kept.
func (p Platform) create(t *testing.T, d hypervisor.Remote) []hypervisor.Handle {
	t.Helper()
	return p.createAs(t, d, spec())
}

func (p Platform) createAs(t *testing.T, d hypervisor.Remote, s *hypervisor.RemoteSpec) []hypervisor.Handle {
	t.Helper()
	var kept []hypervisor.Handle
	err := d.Create(t.Context(), s, func(h hypervisor.Handle) error {
		if left := p.Left(t); len(kept) == 0 && len(left) > 0 {
			t.Errorf("made before there was a handle: %q", left)
		}
		if strings.Contains(string(h), p.Secret) {
			t.Errorf("a secret is in the handle %s", h)
		}
		kept = append(kept, slices.Clone(h))
		return nil
	})
	if err != nil || len(kept) == 0 {
		t.Fatalf("creating: %v, with %d handles", err, len(kept))
	}
	return kept
}

func status(t *testing.T, d hypervisor.Remote, h hypervisor.Handle) hypervisor.RemoteStatus {
	t.Helper()
	now, err := d.Status(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// said is a part of a console.
func said(t *testing.T, d hypervisor.Remote, h hypervisor.Handle, part hypervisor.ConsolePart) string {
	t.Helper()
	text, _ := saidAt(t, d, h, part)
	return text
}

// saidAt is a part of a console, and where that lies.
func saidAt(t *testing.T, d hypervisor.Remote, h hypervisor.Handle, part hypervisor.ConsolePart) (string, int64) {
	t.Helper()
	r, err := d.Console(t.Context(), h, part)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), r.Offset
}

// twice does what may be done twice.
func twice(t *testing.T, what string, do func() error) {
	t.Helper()
	for _, time := range []string{"once", "twice"} {
		if err := do(); err != nil {
			t.Fatalf("%s, %s: %v", what, time, err)
		}
	}
}

func (p Platform) life(t *testing.T) {
	d := p.driver(t)
	kept := p.create(t, d)
	h := kept[len(kept)-1]
	if now := status(t, d, h); now.On || now.Address.IsValid() {
		t.Errorf("before it was ever on: %+v", now)
	}
	for _, kernel := range []bool{false, true} {
		if got := said(t, d, h, hypervisor.ConsolePart{Kernel: kernel}); got != "" {
			t.Errorf("before it was ever on it said %q", got)
		}
	}
	twice(t, "stopping what is off", func() error { return d.Stop(t.Context(), h, time.Second) })

	twice(t, "starting", func() error { return d.Start(t.Context(), h) })
	p.runs(t, d, h, "1")
	p.runs(t, p.driver(t), h, "1") // another process sees the same
	twice(t, "stopping", func() error { return d.Stop(t.Context(), h, timeout) })
	if now := status(t, d, h); now.On {
		t.Errorf("after a stop: %+v", now)
	}
	if got := said(t, d, h, hypervisor.ConsolePart{}); !p.Forgets && !strings.Contains(got, "application 1\n") {
		t.Errorf("once off, it had said %q", got)
	}

	twice(t, "starting again", func() error { return d.Start(t.Context(), h) })
	p.runs(t, d, h, "2")
	got := said(t, d, h, hypervisor.ConsolePart{})
	first, second := strings.Index(got, "application 1\n"), strings.Index(got, "application 2\n")
	switch window := d.Capabilities().Window; {
	case first >= 0 && !window:
		t.Errorf("at the second start, the first's words are there: %q", got)
	case first > second:
		t.Errorf("the first start's words come after the second's: %q", got)
	}
	twice(t, "cutting the power", func() error { return d.Stop(t.Context(), h, 0) })
	if now := status(t, d, h); now.On {
		t.Errorf("without power: %+v", now)
	}

	if err := d.Start(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	twice(t, "removing what is on", func() error { return d.Remove(t.Context(), h) })
	if now, err := d.Status(t.Context(), h); !errors.Is(err, hypervisor.ErrGone) {
		t.Errorf("after its removal: %+v, %v", now, err)
	}
}

// runs waits until a machine that is on has said all that it says and has its
// address, and reads its consoles in parts.
func (p Platform) runs(t *testing.T, d hypervisor.Remote, h hypervisor.Handle, start string) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		now := status(t, d, h)
		if !now.On || time.Now().After(deadline) {
			t.Fatalf("started, it is %+v", now)
		}
		if now.Address == p.Address && strings.Contains(said(t, d, h, hypervisor.ConsolePart{}), "application "+start+"\n") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got := said(t, d, h, hypervisor.ConsolePart{Kernel: true}); !strings.Contains(got, "kernel "+start+"\n") {
		t.Errorf("the kernel said %q", got)
	}
	p.parts(t, d, h)
}

// parts reads a console from other places than its beginning. Of a window there
// are no parts.
func (p Platform) parts(t *testing.T, d hypervisor.Remote, h hypervisor.Handle) {
	t.Helper()
	all, at := saidAt(t, d, h, hypervisor.ConsolePart{})
	if at != 0 {
		t.Errorf("the whole console begins at %d", at)
	}
	size := int64(len(all))
	for offset, begin := range map[int64]int64{3: 3, -3: size - 3, size: size, size + 100: size, -size: 0, -size - 100: 0} {
		if d.Capabilities().Window {
			begin = 0
		}
		got, at := saidAt(t, d, h, hypervisor.ConsolePart{Offset: offset})
		if got != all[begin:] {
			t.Errorf("from %d of %d it said %q, not %q", offset, size, got, all[begin:])
		}
		if at != begin && got != "" {
			t.Errorf("from %d of %d it said what lies at %d, not at %d", offset, size, at, begin)
		}
	}
}

// killedMaker: each handle that was ever kept is enough to remove all.
func (p Platform) killedMaker(t *testing.T) {
	for n := 0; ; n++ {
		s := spec()
		s.ID = fmt.Sprintf("%012x", n) // no machine is made twice
		kept := p.createAs(t, p.driver(t), s)
		if n >= len(kept) {
			n = len(kept) - 1
		}
		if err := p.driver(t).Remove(t.Context(), kept[n]); err != nil {
			t.Fatalf("by handle %d of %d: %v", n+1, len(kept), err)
		}
		if left := p.Left(t); len(left) > 0 {
			t.Fatalf("by handle %d of %d, there is left: %q", n+1, len(kept), left)
		}
		if n == len(kept)-1 {
			return
		}
	}
}

// interrupted: a context that ends while the disk is written.
func (p Platform) interrupted(t *testing.T) {
	d := p.driver(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	broken, written := spec(), 0
	endless := func(ctx context.Context, w io.WriterAt) error {
		written++
		if _, err := w.WriteAt(make([]byte, 1<<10), 0); err != nil {
			return err
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	broken.Disk = func(api.Config) (hypervisor.BootDisk, error) { return disk(diskSize, endless), nil }
	// One that no earlier machine has been made of.
	broken.ImageDisk = func(unit int64) (hypervisor.BootDisk, error) { return disk(max(diskSize, 2*unit), endless), nil }
	var h hypervisor.Handle
	err := d.Create(ctx, broken, func(now hypervisor.Handle) error {
		h = now
		return nil
	})
	if !errors.Is(err, context.Canceled) || written == 0 || h == nil {
		t.Fatalf("%v, after the disk was begun %d times, with the handle %s", err, written, h)
	}
	twice(t, "removing", func() error { return d.Remove(t.Context(), h) })
}

// noKeeping: what cannot be written down is not made.
func (p Platform) noKeeping(t *testing.T) {
	full := errors.New("the disk is full")
	err := p.driver(t).Create(t.Context(), spec(), func(hypervisor.Handle) error { return full })
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// calls are all that is done with a handle.
func calls(ctx context.Context, d hypervisor.Remote, h hypervisor.Handle) map[string]error {
	console := func() error {
		r, err := d.Console(ctx, h, hypervisor.ConsolePart{})
		if err == nil {
			r.Close()
		}
		return err
	}
	_, err := d.Status(ctx, h)
	return map[string]error{
		"status": err, "start": d.Start(ctx, h), "stop": d.Stop(ctx, h, time.Second),
		"console": console(), "remove": d.Remove(ctx, h),
	}
}

func (p Platform) contexts(t *testing.T) {
	d := p.driver(t)
	kept := p.create(t, d)
	h := kept[len(kept)-1]
	if err := d.Start(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range calls(ctx, d, h) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := d.Create(ctx, spec(), func(hypervisor.Handle) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	if now := status(t, d, h); !now.On {
		t.Errorf("what an ended context asked for was done: %+v", now)
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

func (p Platform) damaged(t *testing.T) {
	d := p.driver(t)
	for _, h := range []string{"", "{", "{}", "null", `"text"`, "[1]"} {
		for what, err := range calls(t.Context(), d, hypervisor.Handle(h)) {
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s of the handle %q: %v", what, h, err)
			}
		}
	}
}

func (p Platform) unreachable(t *testing.T) {
	d := p.driver(t)
	kept := p.create(t, d)
	h := kept[len(kept)-1]
	for what, err := range calls(t.Context(), closed(t, p.Unreachable(t)), h) {
		if !errors.Is(err, hypervisor.ErrUnreachable) || strings.Contains(err.Error(), p.Secret) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

// refusals: what is not among the driver's capabilities.
func (p Platform) refusals(t *testing.T) {
	d := p.driver(t)
	can := d.Capabilities()
	if !can.Away || can.Disk == "" || can.Console == "" {
		t.Errorf("a platform that is elsewhere boots a disk and has a console; this is %+v", can)
	}
	asked := map[string]*hypervisor.Spec{"stdin": {Guest: api.Config{Stdin: true}}}
	if !can.Ports {
		asked["ports"] = &hypervisor.Spec{Ports: []hypervisor.Port{{Guest: 80, Protocol: "tcp"}}}
	}
	if !can.Shares {
		asked["shares"] = &hypervisor.Spec{Shares: []hypervisor.Share{{Tag: "share", Path: "/"}}}
	}
	if can.CPUs > 0 {
		asked["CPUs"] = &hypervisor.Spec{CPUs: can.CPUs + 1}
	}
	if !can.Bridges {
		asked["bridge"] = &hypervisor.Spec{Bridge: "br0"}
	}
	for what, spec := range asked {
		spec.Memory = max(can.Memory, 512<<20)
		var refused *hypervisor.CannotError
		if err := hypervisor.Refuse(d, spec); !errors.As(err, &refused) || refused.Platform != d.Name() {
			t.Errorf("%s: %v", what, err)
		}
	}
	plain := &hypervisor.Spec{CPUs: 1, Memory: max(can.Memory, 512<<20)}
	if err := hypervisor.Refuse(d, plain); err != nil {
		t.Errorf("a plain machine is refused: %v", err)
	}
}
