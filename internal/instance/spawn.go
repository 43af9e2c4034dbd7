package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// SuperviseCommand is the hidden command with which capstan executes itself
// as a supervisor; its argument is the instance's directory.
const SuperviseCommand = "__supervise"

// StartError is why a machine could not be started, and the way out.
type StartError struct{ text, hint string }

func (e *StartError) Error() string { return e.text }

// Hint is the way out; it may be empty.
func (e *StartError) Hint() string { return e.hint }

// Started is a supervisor that this process has spawned.
type Started struct {
	State State
	cmd   *exec.Cmd // nil where the machine is a remote platform's
	door  io.Closer
}

// Attached lets the supervisor end once the instance has: until then it waits,
// so that this process can connect to it and miss nothing.
func (s *Started) Attached() {
	if s.cmd != nil {
		s.door.Close()
	}
}

// Wait returns once the supervisor process has ended.
func (s *Started) Wait() {
	if s.cmd != nil {
		s.door.Close()
		s.cmd.Wait()
	}
}

// Start spawns the instance's supervisor and returns once the machine runs.
// The supervisor outlives the caller. On a remote platform there is none, and
// the machine is switched on.
func (i *Instance) Start(ctx context.Context) (*Started, error) {
	if i.remote != nil {
		return i.startRemote(ctx)
	}
	if i.maker != nil {
		defer i.maker.Close()
	}
	if i.State.Live() {
		return nil, fmt.Errorf("%s: %w", i.Config.Name, ErrRunning)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	cmd := exec.Command(self, SuperviseCommand, i.Dir)
	cmd.Dir = i.Dir // for unmounted or deleted folders it must not stand in the caller's
	cmd.SysProcAttr = detached()
	door, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	started := &Started{cmd: cmd, door: door}
	stop := context.AfterFunc(ctx, func() { said.Close() })
	defer stop()
	var ready Ready
	err = json.NewDecoder(said).Decode(&ready)
	switch {
	case ctx.Err() != nil:
		cmd.Process.Kill()
		started.Wait()
		return nil, ctx.Err()
	case err != nil:
		door.Close()
		return nil, errors.Join(errors.New("the supervisor ended before the machine had started"), cmd.Wait())
	case ready.State == nil:
		started.Wait()
		return nil, &StartError{ready.Error, ready.Hint}
	}
	said.Close()
	i.State, started.State = *ready.State, *ready.State
	return started, nil
}

// Say writes what a supervisor has to tell its parent. One that was killed
// need not know.
func Say(r Ready) {
	json.NewEncoder(os.Stdout).Encode(r)
	os.Stdout.Close()
}
