//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// app is the application.
type app struct {
	*process
	started  time.Time
	output   *relay
	input    *input   // nil without standard input
	terminal *os.File // the master's end, nil without a terminal
	ooms     int64    // processes that the kernel killed for memory before it
}

// streams are both ends of a process's standard streams.
type streams struct {
	child [3]int
	close []int // the child's ends, to be closed once it has them

	stdin          *os.File // nil without standard input
	stdout, stderr *os.File // the same file where the streams are merged
	terminal       *os.File // nil without a terminal; else also all of the above
}

// startApp starts the application. Where that is not possible it returns how
// that is to be reported.
func (g *guest) startApp() (exit api.Exit, started bool) {
	req := api.ExecRequest{
		Args: g.cfg.Args, Env: g.cfg.Env, Workdir: g.cfg.Workdir, User: g.cfg.User,
		TTY: g.cfg.TTY, Rows: g.cfg.Rows, Cols: g.cfg.Cols, Stdin: g.cfg.Stdin,
	}
	ooms := oomKills()
	p, s, err := g.spawn(req, true)
	if err != nil {
		return exitOf(err), false
	}
	g.app = &app{process: p, started: time.Now(), terminal: s.terminal, ooms: ooms}
	g.app.output = startRelay(g.console, s.stdout, g.console.piece())
	if s.stdin != nil {
		g.app.input = startInput(s.stdin, g.console, s.terminal != nil)
	}
	g.state.set("running")
	return api.Exit{}, true
}

// spawn starts a program as req says, with its own streams; merged sends
// standard output and error down one pipe, which keeps their order.
func (g *guest) spawn(req api.ExecRequest, merged bool) (*process, *streams, error) {
	id, err := lookupUser(os.DirFS("/"), req.User)
	if err != nil {
		return nil, nil, &startError{statusNotExecutable, err.Error()}
	}
	env := environment(req.Env, id.home, g.hostname(), req.TTY)
	workdir := filepath.Join("/", req.Workdir)
	path, err := findProgram(req.Args[0], getenv(env, "PATH"), workdir)
	if err != nil {
		return nil, nil, err
	}
	s, err := newStreams(req, id, merged)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the standard streams: %w", err)
	}
	p, err := g.procs.start(command{path: path, args: req.Args, env: env, workdir: workdir, id: id, files: s.child, tty: req.TTY})
	for _, fd := range s.close {
		unix.Close(fd)
	}
	if err != nil {
		s.closeOurs()
		return nil, nil, err
	}
	return p, s, nil
}

// newStreams opens the streams that req asks for. They belong to the user, so
// that it can open /dev/stdout by name.
func newStreams(req api.ExecRequest, id identity, merged bool) (*streams, error) {
	s := &streams{}
	var err error
	switch {
	case req.TTY:
		err = s.openTerminal(req, id)
	default:
		err = s.openPipes(req.Stdin, merged)
		for _, fd := range s.child {
			if err == nil {
				err = unix.Fchown(fd, int(id.uid), int(id.gid))
			}
		}
	}
	if err != nil {
		for _, fd := range s.close {
			unix.Close(fd)
		}
		s.closeOurs()
		return nil, err
	}
	return s, nil
}

func (s *streams) openPipes(stdin, merged bool) error {
	var err error
	if stdin {
		s.stdin, s.child[0], err = s.pipe(true)
	} else if s.child[0], err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		s.close = append(s.close, s.child[0])
	}
	if err != nil {
		return err
	}
	if s.stdout, s.child[1], err = s.pipe(false); err != nil {
		return err
	}
	if s.stderr, s.child[2] = s.stdout, s.child[1]; merged {
		return nil
	}
	s.stderr, s.child[2], err = s.pipe(false)
	return err
}

// pipe opens a pipe; only PID 1's end does not block.
func (s *streams) pipe(toChild bool) (ours *os.File, child int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, err
	}
	mine, name := fds[0], "output"
	child = fds[1]
	if toChild {
		mine, child, name = fds[1], fds[0], "input"
	}
	s.close = append(s.close, child)
	if err := unix.SetNonblock(mine, true); err != nil {
		unix.Close(mine)
		return nil, 0, err
	}
	return os.NewFile(uintptr(mine), name), child, nil
}

// openTerminal opens a pseudo-terminal.
func (s *streams) openTerminal(req api.ExecRequest, id identity) error {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	s.terminal = os.NewFile(uintptr(master), "terminal")
	s.stdin, s.stdout, s.stderr = s.terminal, s.terminal, s.terminal
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return err
	}
	child, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.close = append(s.close, child)
	s.child = [3]int{child, child, child}
	if req.Rows > 0 && req.Cols > 0 {
		if err := setSize(master, req.Rows, req.Cols); err != nil {
			return err
		}
	}
	const ttyGroup = 5
	return unix.Fchown(child, int(id.uid), ttyGroup)
}

func setSize(fd, rows, cols int) error {
	if rows < 1 || cols < 1 || rows > 0xffff || cols > 0xffff {
		return fmt.Errorf("a terminal cannot have %d rows and %d columns", rows, cols)
	}
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(cols)})
}

// resize sets the size of a terminal.
func resize(terminal *os.File, rows, cols int) error {
	if terminal == nil {
		return errors.New("the program has no terminal")
	}
	raw, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { serr = setSize(int(fd), rows, cols) })
	return errors.Join(err, serr)
}

func (s *streams) closeOurs() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if f != nil {
			f.Close() // those that are one file are closed once
		}
	}
}

// workdir is the application's, an absolute path.
func (g *guest) workdir() string { return filepath.Join("/", g.cfg.Workdir) }

// ended is how a process ended.
func ended(status unix.WaitStatus) api.Exit {
	if status.Signaled() {
		n := int(status.Signal())
		return api.Exit{Status: 128 + n, Signal: n}
	}
	return api.Exit{Status: status.ExitStatus()}
}

// oomKills is how many processes the kernel has killed for want of memory.
func oomKills() int64 {
	f, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	return vmstat(f, "oom_kill")
}

// vmstat returns one counter of /proc/vmstat.
func vmstat(text []byte, name string) int64 {
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64) // 0 if the kernel changes its form
			return n
		}
	}
	return 0
}

// oomKilled tells whether the kernel's log says that it killed pid for want
// of memory.
func oomKilled(log string, pid int) bool {
	return strings.Contains(log, fmt.Sprintf("Killed process %d ", pid))
}

// kernelLog reads what the kernel's log holds.
func kernelLog() string {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var b strings.Builder
	record := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, record)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
			continue // records were overwritten meanwhile
		}
		if n <= 0 || err != nil {
			return b.String()
		}
		b.Write(record[:n])
	}
}

// state is where the application stands, for the REST API.
type state struct {
	mu     sync.Mutex
	name   string
	exit   *api.Exit
	exited chan struct{} // closed when exit is set
}

func (s *state) set(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exit == nil {
		s.name = name
	}
}

func (s *state) end(e api.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name, s.exit = "exited", &e
	close(s.exited)
}

func (s *state) get() (string, *api.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name, s.exit
}
