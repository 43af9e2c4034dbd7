package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// Instances on a remote platform have the same directory as others, and a
// handle in it, which says what the platform knows their machine by. There is
// no supervisor: each command asks the platform, and what it learns becomes
// the state in the directory. So that state is only as new as the last command.

// handleFile holds what a remote driver has to know of its machine.
const handleFile = "handle.json"

// Remotes are where instances live that have no supervisor.
type Remotes struct {
	Platforms []hypervisor.Remote
	// Log bounds what is kept here of the output of earlier runs.
	Log LogLimit
}

// With returns the instances with the remote platforms that some live on.
func (s *Instances) With(r Remotes) *Instances { return &Instances{s.dir, s.clean, r} }

// remote is what the instance's platform is, where that is a remote one.
type remote struct {
	hypervisor.Remote
	log LogLimit
}

func (r Remotes) find(platform string) *remote {
	for _, p := range r.Platforms {
		if p.Name() == platform {
			return &remote{p, r.Log}
		}
	}
	return nil
}

// Away reports whether the instance is on a remote platform.
func (i *Instance) Away() bool { return i.remote != nil }

// handle returns the handle of the instance's machine, nil if none was ever
// begun.
func (i *Instance) handle() (hypervisor.Handle, error) {
	var h hypervisor.Handle
	err := readJSON(filepath.Join(i.Dir, handleFile), &h)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return h, err
}

// Begun reports whether there may be something of the instance on its platform.
func (i *Instance) Begun() bool {
	h, err := i.handle()
	return h != nil || err != nil
}

// Remote completes a wish for a machine on a remote platform with what an
// instance's config says of it.
func (c Config) Remote(spec hypervisor.RemoteSpec) hypervisor.RemoteSpec {
	m := c.Machine
	spec.ID, spec.Name, spec.Image, spec.Digest = c.ID, c.Name, c.Image, c.Digest
	spec.Guest, spec.Memory, spec.CPUs, spec.Ports = m.Guest, m.Memory, m.CPUs, m.Ports
	spec.Replicas = c.Replicas
	spec.Guest.Begin, spec.Guest.Time = true, time.Now().UnixNano()
	return spec
}

// Make makes the machine of an instance on a remote platform. spec says what
// the instance's config does not. After an error, Discard is the caller's.
func (i *Instance) Make(ctx context.Context, spec hypervisor.RemoteSpec) error {
	held, err := i.lock(ctx, patience)
	if err != nil {
		return err
	}
	c := i.Config
	spec = c.Remote(spec)
	keep := func(h hypervisor.Handle) error { return writeJSON(filepath.Join(i.Dir, handleFile), h) }
	err = i.set(State{Status: Making, Replicas: c.Replicas})
	if err == nil {
		err = i.remote.Create(ctx, &spec, keep)
	}
	if err == nil {
		err = i.set(State{Status: Created, Replicas: c.Replicas})
	}
	return errors.Join(err, held.Close())
}

func (i *Instance) set(s State) error {
	i.State = s
	return writeJSON(filepath.Join(i.Dir, stateFile), s)
}

// Observe brings the state of an instance on a remote platform up to date. One
// that has ended, and was to be removed then, is. Of others nothing is asked.
func (i *Instance) Observe(ctx context.Context) error {
	if i.remote == nil || i.Damaged != nil {
		return nil
	}
	if err := i.learn(ctx); err != nil {
		return err
	}
	if !i.Config.Remove || !i.State.ended() || isHeld(filepath.Join(i.Dir, makerFile)) {
		return nil
	}
	if err := i.Remove(ctx); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", i.Config.Name, ErrNotFound)
}

// learn brings the state up to date.
func (i *Instance) learn(ctx context.Context) error {
	// Another command may know better by now, or have removed it.
	if err := i.Refresh(); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", i.Config.Name, ErrNotFound)
	} else if err != nil || i.State.Status == Making {
		return err
	}
	now, err := i.look(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", i.Config.Name, err)
	}
	i.note(ctx, now)
	return nil
}

// surveyBound bounds the questions to platforms of one survey.
const surveyBound = 10 * time.Second

// Survey brings the states of instances up to date, all at once, and returns
// those that are still there. Where a platform does not answer in time, the
// state is Unknown.
func Survey(ctx context.Context, list []*Instance) []*Instance {
	ctx, cancel := context.WithTimeout(ctx, surveyBound)
	defer cancel()
	var asking errgroup.Group
	asking.SetLimit(16)
	gone := make([]bool, len(list))
	for n, i := range list {
		if i.remote == nil {
			continue
		}
		asking.Go(func() error {
			err := i.Observe(ctx)
			switch {
			case err == nil:
			case errors.Is(err, ErrNotFound):
				gone[n] = true
			case ctx.Err() != nil && !i.State.Off.IsZero():
				i.State.Status, i.State.Reason = Unknown, "it is off; its last words are awaited"
			default:
				i.State.Status, i.State.Reason = Unknown, err.Error()
			}
			return nil
		})
	}
	_ = asking.Wait() // nobody returns an error
	var there []*Instance
	for n, i := range list {
		if !gone[n] {
			there = append(there, i)
		}
	}
	return there
}

// ended reports whether the instance has run, and does no more.
func (s State) ended() bool { return s.Status == Exited || s.Status == Dead }

// note keeps a state that the platform told. Whoever holds the lock knows
// better.
func (i *Instance) note(ctx context.Context, now State) {
	changed := i.State.Status != now.Status || i.State.Address != now.Address || !i.State.Started.Equal(now.Started) ||
		i.State.Replicas != now.Replicas || i.State.Reason != now.Reason || !i.State.Off.Equal(now.Off) || !slices.Equal(i.State.Members, now.Members)
	ran := i.State.Live()
	i.State = now
	if !changed {
		return
	}
	held, err := i.lock(ctx, noPatience)
	if err != nil {
		return
	}
	defer held.Close()
	var known State
	if ran && now.Status == Dead && readJSON(filepath.Join(i.Dir, stateFile), &known) == nil && known.Status == Exited && known.Started.Equal(now.Started) {
		i.State = known // somebody else has heard of its end meanwhile
		return
	}
	_ = i.set(now) // the next command asks again
}

// look asks the platform how the instance's machine fares.
func (i *Instance) look(ctx context.Context) (State, error) {
	h, err := i.handle()
	if err != nil || h == nil {
		return i.State, err
	}
	status, err := i.remote.Status(ctx, h)
	if errors.Is(err, hypervisor.ErrGone) {
		return State{Status: Dead, Reason: "its machine is gone from " + i.Config.Platform, Exit: api.Exit{Status: ExitLost}, Finished: i.State.Finished}, nil
	}
	if err != nil {
		return i.State, err
	}
	if i.Group() {
		return i.State.group(status), nil
	}
	state := i.State
	switch {
	case status.On:
		if !state.Live() || !state.Off.IsZero() {
			state = State{Status: Running, Started: time.Now()}
		}
		if !status.Started.IsZero() {
			state.Started = status.Started
		}
		state.Address, err = i.address(ctx, h, status)
	case state.Live(), state.Status == Dead && i.heard != nil: // by who has not heard it
		state, err = i.final(ctx, h)
	}
	return state, err
}

// final is the state of a machine that ran and is off. Since when it is off is
// noted, for commands that have no time to wait for its last words.
func (i *Instance) final(ctx context.Context, h hypervisor.Handle) (State, error) {
	if i.State.Off.IsZero() {
		off := i.State
		if off.Off = off.Finished; off.Off.IsZero() {
			off.Off = time.Now()
		}
		i.note(ctx, off)
	}
	report, reported, err := i.lastReport(ctx, h)
	if err != nil {
		return i.State, err
	}
	state := State{Started: i.State.Started, Finished: i.State.Off}
	end := hypervisor.End{Cause: hypervisor.PoweredOff}
	if i.State.Killed {
		end.Cause = hypervisor.Killed
	}
	state.Status, state.Exit, state.Reason = classify(report, reported, end)
	if state.Status == Dead {
		state.Reason = "the machine ended without a report"
	}
	return state, nil
}

// lastReport is the exit report of a machine that is off. Where its last words
// may come late, they are waited for.
func (i *Instance) lastReport(ctx context.Context, h hypervisor.Handle) (api.Exit, bool, error) {
	if i.heard != nil { // the platform may have it no more
		return *i.heard, true, nil
	}
	for p := (pace{}); ; {
		report, ok, err := i.reported(ctx, h)
		late := i.remote.Capabilities().Window && !i.State.Killed && time.Since(i.State.Off) < lastWords
		if ok || err != nil || !late {
			return report, ok, err
		}
		if err := p.rest(ctx); err != nil {
			return api.Exit{}, false, err
		}
	}
}

// Discard removes an instance, whatever has been made of it and, where that is
// elsewhere, whatever it does.
func (i *Instance) Discard(ctx context.Context) error {
	if i.remote == nil {
		return i.Remove(ctx)
	}
	return i.removeRemote(ctx)
}

// removeRemote deletes the instance with its machine.
func (i *Instance) removeRemote(ctx context.Context) error {
	held, err := i.lock(ctx, patience)
	if err != nil {
		return err
	}
	defer held.Close()
	h, err := i.handle()
	if err == nil && h != nil {
		err = i.remote.Remove(ctx, h)
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", i.Config.Name, err)
	}
	return removeDir(i.Dir)
}

// Forget deletes what is here of an instance whose platform is gone, and leaves
// what is there.
func (i *Instance) Forget(ctx context.Context) error {
	held, err := i.lock(ctx, patience)
	if err != nil {
		return err
	}
	defer held.Close()
	return removeDir(i.Dir)
}

// startRemote switches the instance's machine on. What its last run said is
// kept here first: the platform keeps one run's.
func (i *Instance) startRemote(ctx context.Context) (*Started, error) {
	held, err := i.lock(ctx, patience)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	h, err := i.made()
	if err != nil {
		return nil, err
	}
	state, err := i.look(ctx)
	if err != nil {
		return nil, err
	}
	if state.Live() {
		return nil, fmt.Errorf("%s: %w", i.Config.Name, ErrRunning)
	}
	if i.Group() {
		return i.startGroup(ctx, h, state)
	}
	if state.ended() {
		if err := i.keepRun(ctx, h); err != nil {
			return nil, err
		}
	}
	if err := i.keepWindow(ctx, h); err != nil {
		return nil, err
	}
	if state.ended() {
		if err := i.set(State{Status: Created}); err != nil {
			return nil, err
		}
	}
	// Said before it is done: a machine that runs is never taken for one that
	// never ran.
	if err := i.set(State{Status: Running, Started: time.Now()}); err != nil {
		return nil, err
	}
	if err := i.remote.Start(ctx, h); err != nil {
		return nil, errors.Join(err, i.set(State{Status: Created}))
	}
	return &Started{State: i.State}, nil
}

// made returns the handle of a machine that was made to the end.
func (i *Instance) made() (hypervisor.Handle, error) {
	h, err := i.handle()
	if err == nil && (h == nil || i.State.Status == Making) {
		err = errors.New("its machine was never made whole")
	}
	return h, err
}

// keepRun copies what the last run said to the log in the directory.
func (i *Instance) keepRun(ctx context.Context, h hypervisor.Handle) error {
	log, err := openConsole(i.Dir, i.remote.log)
	if err != nil {
		return err
	}
	err = i.copyRun(ctx, log, h, false, caughtUp)
	return errors.Join(err, log.Close())
}

// stopRemote asks the application to end, and cuts the power if the machine is
// not off some time after the guest itself should have seen to it.
func (i *Instance) stopRemote(ctx context.Context, timeout int) error {
	const slack = 10 * time.Second // the guest syncs its disks in the end
	if timeout < 0 {
		timeout = i.Config.Machine.Guest.StopTimeout
	}
	return i.endRemote(ctx, time.Duration(timeout)*time.Second+slack)
}

// endRemote ends the instance's machine, after grace or at once.
func (i *Instance) endRemote(ctx context.Context, grace time.Duration) error {
	h, err := i.handle()
	if err != nil {
		return err
	}
	if err := i.Observe(ctx); err != nil {
		return err
	}
	if h == nil || !i.State.Live() {
		return fmt.Errorf("%s: %w", i.Config.Name, ErrNotRunning)
	}
	if grace == 0 {
		state := i.State
		state.Killed = true
		if held, err := i.lock(ctx, patience); err == nil {
			err = i.set(state)
			held.Close()
			if err != nil {
				return err
			}
		}
	}
	if err := i.remote.Stop(ctx, h, grace); err != nil {
		return err
	}
	if err = i.Observe(ctx); errors.Is(err, ErrNotFound) {
		return nil // it was to be removed, and is
	}
	return err
}
