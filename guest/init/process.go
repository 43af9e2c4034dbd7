//go:build linux

package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaper starts processes and collects those that end, the application's
// orphans among them.
type reaper struct {
	mu     sync.Mutex
	procs  map[int]*process
	wake   chan os.Signal
	none   chan struct{} // told each time that no child is left
	closed bool          // no process starts any more
}

// process is a child of PID 1 that somebody waits for.
type process struct {
	pid    int
	done   chan struct{} // closed when it has ended
	status unix.WaitStatus
}

// command is what to start.
type command struct {
	path    string
	args    []string
	env     []string
	workdir string
	id      identity
	files   [3]int
	tty     bool // files[0] becomes the controlling terminal
}

func newReaper() *reaper {
	r := &reaper{procs: map[int]*process{}, wake: make(chan os.Signal, 1), none: make(chan struct{}, 1)}
	signal.Notify(r.wake, unix.SIGCHLD)
	go r.loop()
	return r
}

// loop ends with the machine.
func (r *reaper) loop() {
	for range r.wake {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WALL, nil)
			if err == unix.EINTR {
				continue
			}
			if err == unix.ECHILD {
				select {
				case r.none <- struct{}{}:
				default:
				}
			}
			if err != nil || pid <= 0 {
				break
			}
			r.mu.Lock()
			p := r.procs[pid]
			delete(r.procs, pid)
			r.mu.Unlock()
			if p != nil {
				p.status = status
				close(p.done)
			}
		}
	}
}

// start starts c. The lock keeps the loop from looking for a process that has
// ended before it was entered, and the working directory, which the child
// inherits, from changing meanwhile.
func (r *reaper) start(c command) (*process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, &startError{statusFailed, "the machine is going down"}
	}
	// The directory is entered as root: it may be closed to the user.
	if err := unix.Chdir(c.workdir); err != nil {
		return nil, &startError{statusNotExecutable, "the working directory " + c.workdir + " cannot be used: " + err.Error()}
	}
	defer unix.Chdir("/") // always there
	attr := &syscall.ProcAttr{
		Env:   c.env,
		Files: []uintptr{uintptr(c.files[0]), uintptr(c.files[1]), uintptr(c.files[2])},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Setctty:    c.tty,
			Credential: &syscall.Credential{Uid: c.id.uid, Gid: c.id.gid, Groups: c.id.groups},
		},
	}
	pid, err := syscall.ForkExec(c.path, c.args, attr)
	if err != nil {
		return nil, explain(c.path, err)
	}
	p := &process{pid: pid, done: make(chan struct{})}
	r.procs[pid] = p
	return p, nil
}

// signal sends sig to p unless it has ended.
func (r *reaper) signal(p *process, sig unix.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.procs[p.pid] != p {
		return unix.ESRCH
	}
	return unix.Kill(p.pid, sig)
}

// end kills all processes, lets no further ones start, and waits until the
// last is gone, or limit is over.
func (r *reaper) end(limit time.Duration) bool {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	select {
	case <-r.none: // of an earlier time
	default:
	}
	if err := unix.Kill(-1, unix.SIGKILL); err == unix.ESRCH {
		return true
	}
	select {
	case r.wake <- unix.SIGCHLD:
	default:
	}
	select {
	case <-r.none:
		return true
	case <-time.After(limit):
		return false
	}
}
