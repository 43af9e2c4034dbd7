package qemu

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// process is a QEMU that we started. It is reaped whatever happens.
type process struct {
	cmd    *exec.Cmd
	stderr *tail
	done   chan struct{} // closed when it has been reaped
	err    error         // of exec.Cmd.Wait, valid after done
}

// startProcess starts cmd such that it dies with us, and is not reached by
// the terminal's signals.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, stderr: &tail{limit: stderrLimit}, done: make(chan struct{})}
	cmd.Stderr = p.stderr
	cmd.WaitDelay = time.Second // for a child of QEMU's that holds stderr open
	detach(cmd)
	started := make(chan error)
	go func() {
		// Linux kills the child when the thread ends that started it, not
		// the process: this one does not end before the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		release, err := startContained(cmd)
		started <- err
		if err != nil {
			return
		}
		defer release()
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process and waits for its end.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	<-p.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// failure is how the process ended in words, "" for an orderly end.
func (p *process) failure() string {
	state := p.cmd.ProcessState
	if state == nil || state.Success() {
		return ""
	}
	return state.String() // "exit status 1", "signal: killed"
}

// stderrLimit is how much of QEMU's messages is kept: the last 4 KiB.
const stderrLimit = 4 << 10

// tail keeps the end of what is written to it.
type tail struct {
	limit int
	mu    sync.Mutex
	held  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = append(t.held, b[max(0, len(b)-t.limit):]...)
	if over := len(t.held) - t.limit; over > 0 {
		t.held = append(t.held[:0], t.held[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.held)
}

// lastLine is the last line that is not empty, without the name by which QEMU
// introduces itself.
func (t *tail) lastLine() string {
	lines := strings.Split(strings.TrimSpace(t.String()), "\n")
	line := strings.TrimSpace(lines[len(lines)-1])
	if name, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(name, "qemu") && !strings.Contains(name, " ") {
		return rest
	}
	return line
}
