package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// Boot is what a supervisor needs beside the instance's own directory.
type Boot struct {
	// Driver is the driver of the instance's platform.
	Driver func(platform string) (hypervisor.Driver, error)
	// Guest finds the guest: Kernel and Decompressed as in hypervisor.Spec.
	// It is not asked for where an instance's disk boots by itself.
	Guest func() (kernel, decompressed string, err error)
	// Log bounds the console's log.
	Log LogLimit
	// Attached is closed when the process that started the supervisor has
	// connected to it, or has no more interest. Nil means that nobody will.
	Attached <-chan struct{}
}

// Ready is what a supervisor says once: that the machine runs, or why not.
type Ready struct {
	State *State `json:"state,omitempty"`
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// supervisor owns one instance and its machine while it runs.
type supervisor struct {
	boot    Boot
	inst    *Instance
	console *consoleLog
	ended   chan struct{} // closed when its first machine has ended
	over    chan struct{} // closed when the instance ended for good

	mu       sync.Mutex
	state    State
	machine  hypervisor.Machine
	guest    *guest
	input    int64         // bytes sent to the application since it started
	stopping chan struct{} // closed when somebody asked for the end
	killed   bool          // …at once
}

// Supervise runs the instance in dir until it has ended for good, restarts
// included. ready is called once. Only one process can supervise an instance.
func Supervise(ctx context.Context, dir string, boot Boot, ready func(Ready)) error {
	inst, held, err := claim(ctx, dir)
	if err != nil {
		return err
	}
	s := &supervisor{boot: boot, inst: inst, ended: make(chan struct{}), over: make(chan struct{}), stopping: make(chan struct{})}
	if s.console, err = openConsole(dir, boot.Log); err != nil {
		held.Close()
		return err
	}
	server, err := s.serve()
	if err != nil {
		held.Close()
		return err
	}
	err = s.run(ctx, ready)
	s.console.Close()
	close(s.over)
	s.drain(server)
	os.Remove(filepath.Join(dir, socketFile))
	if inst.Config.Remove {
		err = errors.Join(err, removeDir(dir))
	}
	return errors.Join(err, held.Close())
}

// farewell bounds the wait for connections at the end.
const farewell = 5 * time.Second

// drain closes the server once all who wait for the end have it. Who started
// the instance to see its output gets all of it, however slowly it reads,
// unless somebody asked for the end.
func (s *supervisor) drain(server *http.Server) {
	read, cut := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		if s.boot.Attached != nil {
			select {
			case <-s.boot.Attached:
			case <-cut:
			}
		}
		s.console.awaitReaders()
	}()
	select {
	case <-read:
	case <-s.stopping:
		select {
		case <-read:
		case <-time.After(farewell):
		}
	}
	close(cut)
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		server.Close()
	}
	<-read // whoever was cut off is gone
}

// claim takes the instance's lock.
func claim(ctx context.Context, dir string) (*Instance, io.Closer, error) {
	inst, err := Remotes{}.read(dir)
	if err != nil {
		return nil, nil, err
	}
	held, err := inst.lock(ctx, patience)
	if err != nil {
		return nil, nil, err
	}
	// What a killed supervisor left as running must not look so again, now
	// that the lock is held.
	path := filepath.Join(dir, stateFile)
	var last State
	err = readJSON(path, &last)
	if err == nil && last.Live() {
		err = writeJSON(path, last.lost())
	}
	if err != nil {
		return nil, nil, errors.Join(err, held.Close())
	}
	return inst, held, nil
}

// run boots the machine, again as often as the restart policy says.
func (s *supervisor) run(ctx context.Context, ready func(Ready)) error {
	const shortest, longest = 100 * time.Millisecond, time.Minute
	pause := shortest
	ended := sync.OnceFunc(func() { close(s.ended) })
	defer ended()
	for restarts := 0; ; restarts++ {
		began := time.Now()
		state, err := s.once(ctx, restarts, ready)
		if err != nil {
			if restarts == 0 {
				ready(Failure(err))
				return errors.Join(err, s.set(State{Status: Created, Reason: err.Error()}))
			}
			state.Status, state.Reason, state.Finished = Dead, err.Error(), time.Now()
			state.Exit = api.Exit{Status: ExitLost}
		}
		if !s.again(state, restarts) {
			return s.set(state)
		}
		if time.Since(began) > 10*time.Second {
			pause = shortest
		}
		waiting := state
		waiting.Status = Restarting
		if err := s.set(waiting); err != nil {
			return err
		}
		ended()
		select {
		case <-time.After(pause):
		case <-s.stopping:
			return s.set(state)
		case <-ctx.Done():
			return s.set(state)
		}
		pause = min(2*pause, longest)
	}
}

// Failure is what a supervisor says of an error.
func Failure(err error) Ready {
	r := Ready{Error: err.Error()}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		r.Hint = hinted.Hint()
	}
	return r
}

// again reports whether the policy wants one more start.
func (s *supervisor) again(state State, restarts int) bool {
	select {
	case <-s.stopping:
		return false
	default:
	}
	if state.Exit.Unstarted() {
		return false // it would not be different next time
	}
	switch policy := s.inst.Config.Restart; policy.Policy {
	case "always":
		return true
	case "on-failure":
		return state.Exit.Status != 0 && (policy.Max == 0 || restarts < policy.Max)
	default:
		return false
	}
}

// spec is what the driver boots, with paths as this host has them.
func (s *supervisor) spec() (hypervisor.Spec, error) {
	spec := s.inst.Config.Machine
	spec.Name, spec.Dir = s.inst.Config.Name, s.inst.Dir
	spec.KernelLog = s.inst.KernelPath()
	spec.Guest.Time = time.Now().UnixNano()
	// A path that is not absolute is one in the instance's directory.
	for n := range spec.Disks {
		spec.Disks[n].Path = s.inst.path(spec.Disks[n].Path)
	}
	for n := range spec.Shares {
		spec.Shares[n].Path = s.inst.path(spec.Shares[n].Path)
	}
	if spec.System != nil {
		system := *spec.System
		system.Disk, system.Base = s.inst.path(system.Disk), s.inst.path(system.Base)
		spec.System = &system
	} else if spec.Bootable != "" {
		spec.Bootable = s.inst.path(spec.Bootable)
	} else if s.boot.Guest != nil {
		var err error
		if spec.Kernel, spec.Decompressed, err = s.boot.Guest(); err != nil {
			return spec, err
		}
	}
	return spec, nil
}

// once boots the machine and waits for its end. Its error means that the
// machine could not be started.
func (s *supervisor) once(ctx context.Context, restarts int, ready func(Ready)) (State, error) {
	spec, err := s.spec()
	if err != nil {
		return State{}, err
	}
	if err := os.Truncate(spec.KernelLog, 0); err != nil && !os.IsNotExist(err) {
		return State{}, fmt.Errorf("emptying the kernel's log: %w", err)
	}
	driver, err := s.boot.Driver(s.inst.Config.Platform)
	if err != nil {
		return State{Restarts: restarts}, err
	}
	m, err := driver.Start(ctx, &spec)
	if err != nil {
		return State{Restarts: restarts}, err
	}
	var g *guest // stays nil in a system that is not ours
	if control := m.Control(); control != nil {
		g = newGuest(control)
		defer g.Close()
	}
	name, why := m.Accel()
	state := State{
		Status: Running, Started: time.Now(), Restarts: restarts,
		Ports: m.Ports(), Accel: name, AccelWhy: why, PID: m.PID(),
	}
	if err := s.begin(m, g, state); err != nil {
		m.Kill()
		m.Wait()
		return state, err
	}
	if restarts == 0 {
		started := state // the reader keeps it
		ready(Ready{State: &started})
	}
	s.console.hold()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		m.Wait()
		s.console.letGo()
	}()
	report, reported, relayErr := relay(s.console, m.Console())
	if relayErr != nil {
		relayErr = fmt.Errorf("writing the console's log: %w", relayErr)
		m.Kill() // nobody would ever see what it says
	}
	end := m.Wait()
	<-gone
	state.Finished, state.PID, state.Ports = time.Now(), 0, nil
	if spec.System != nil {
		state.Status, state.Exit, state.Reason = classifySystem(end)
	} else {
		state.Status, state.Exit, state.Reason = classify(report, reported, end)
	}
	if relayErr != nil {
		state.Reason = relayErr.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machine, s.guest = nil, nil
	return state, nil
}

// begin makes a started machine the one that requests reach.
func (s *supervisor) begin(m hypervisor.Machine, g *guest, state State) error {
	s.mu.Lock()
	s.machine, s.guest, s.input = m, g, 0
	killed := s.killed
	s.mu.Unlock()
	if killed {
		return errors.New("killed before it had started")
	}
	return s.set(state)
}

// sent counts n more bytes of input and returns how many there were so far.
func (s *supervisor) sent(n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.input += n
	return s.input
}

func (s *supervisor) set(state State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	return writeJSON(filepath.Join(s.inst.Dir, stateFile), state)
}

func (s *supervisor) current() (hypervisor.Machine, *guest, State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine, s.guest, s.state
}

// end notes that no restart is wanted any more.
func (s *supervisor) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stopping:
	default:
		close(s.stopping)
	}
	s.console.letGo() // the end does not wait for who does not read
}

// kill cuts the power.
func (s *supervisor) kill() error {
	s.end()
	s.mu.Lock()
	s.killed = true
	m := s.machine
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.Kill()
}

// stop asks the application to end, and cuts the power if it has not some
// time after the guest itself should have done so. A negative timeout, in
// seconds, is the instance's own.
func (s *supervisor) stop(ctx context.Context, timeout int) error {
	s.end()
	m, g, _ := s.current()
	if m == nil {
		return nil
	}
	if timeout < 0 {
		timeout = s.inst.Config.Machine.Guest.StopTimeout
	}
	if g == nil {
		return s.press(ctx, m, time.Duration(timeout)*time.Second)
	}
	// The guest may still be booting, and syncs its disks in the end.
	const slack = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, time.Duration(timeout)*time.Second+slack)
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- g.stop(ctx, timeout) }()
	for {
		select {
		case <-s.over:
			return nil
		case err := <-asked:
			if err != nil && ctx.Err() == nil {
				// No guest that listens: the platform may reach it.
				if err := m.Powerdown(ctx); err != nil {
					return s.kill()
				}
			}
			asked = nil
		case <-ctx.Done():
			return s.kill()
		}
	}
}
