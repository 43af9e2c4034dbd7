package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	cmd   *exec.Cmd
}

// Wait returns once the supervisor process has ended.
func (s *Started) Wait() { s.cmd.Wait() }

// Start spawns the instance's supervisor and returns once the machine runs.
// The supervisor outlives the caller.
func (i *Instance) Start(ctx context.Context) (*Started, error) {
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
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	defer r.Close()
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	var ready Ready
	if err := json.NewDecoder(r).Decode(&ready); err != nil {
		if ctx.Err() != nil {
			cmd.Process.Kill()
			cmd.Wait()
			return nil, ctx.Err()
		}
		return nil, errors.Join(errors.New("the supervisor ended before the machine had started"), cmd.Wait())
	}
	if ready.State == nil {
		cmd.Wait()
		return nil, &StartError{ready.Error, ready.Hint}
	}
	i.State = *ready.State
	return &Started{State: *ready.State, cmd: cmd}, nil
}

// Say writes what a supervisor has to tell its parent.
func Say(r Ready) {
	json.NewEncoder(os.Stdout).Encode(r)
	os.Stdout.Close()
}
