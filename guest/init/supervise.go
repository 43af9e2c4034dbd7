//go:build linux

package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// defaultStopTimeout is that of container engines.
const defaultStopTimeout = 10 * time.Second

// supervise waits for the end of the application, and brings it about when
// the host, the machine's power button or a signal asks for it.
func (g *guest) supervise() api.Exit {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	// Ctrl-Alt-Del is to reach PID 1 as SIGINT instead of resetting.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // a machine without a keyboard

	var deadline <-chan time.Time
	var killed bool
	for {
		select {
		case <-g.app.done:
			return g.appEnded(killed)
		case <-signals:
			deadline = g.stop(deadline, api.StopRequest{Timeout: -1})
		case req := <-g.stops:
			deadline = g.stop(deadline, req)
		case <-deadline:
			g.log.debugf("the application did not end in time")
			killed = true
			_ = g.procs.signal(g.app.process, unix.SIGKILL) // or it has just ended
		}
	}
}

// powerOffArg makes another process of PID 1's program ask PID 1 for the end.
const powerOffArg = "poweroff"

// isInit tells whether PID 1 runs the same program as this process.
func isInit() bool {
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return false
	}
	first, err := os.Stat("/proc/1/exe")
	return err == nil && os.SameFile(own, first)
}

// askForEnd is what the kernel's poweroff_cmd does. It does not return.
func askForEnd() {
	if err := unix.Kill(1, unix.SIGTERM); err != nil {
		fmt.Fprintf(os.Stderr, "asking PID 1 for the end: %v\n", err)
		os.Exit(statusFailed)
	}
	os.Exit(0)
}

// stop asks the application to end and returns when its time is over. A
// second request can only shorten the time.
func (g *guest) stop(deadline <-chan time.Time, req api.StopRequest) <-chan time.Time {
	timeout := time.Duration(req.Timeout) * time.Second
	if req.Timeout < 0 {
		timeout = g.stopTimeout()
	}
	if deadline == nil {
		g.state.set("stopping")
		g.log.debugf("stopping the application")
		_ = g.procs.signal(g.app.process, g.stopSignal()) // or it has just ended
	} else if req.Timeout < 0 {
		return deadline
	}
	return time.After(timeout)
}

func (g *guest) stopTimeout() time.Duration {
	if g.cfg.StopTimeout <= 0 {
		return defaultStopTimeout
	}
	return time.Duration(g.cfg.StopTimeout) * time.Second
}

func (g *guest) stopSignal() unix.Signal {
	if sig, err := parseSignal(g.cfg.StopSignal); err == nil {
		return sig
	}
	return unix.SIGTERM
}

// appEnded says how the application ended; killed that PID 1 killed it.
func (g *guest) appEnded(killed bool) api.Exit {
	e := ended(g.app.status)
	switch {
	case e.Signal == int(unix.SIGKILL) && killed:
		e.Reason = "the application did not end in time and was killed"
	case e.Signal == int(unix.SIGKILL) && oomKills() > g.app.ooms && oomKilled(kernelLog(), g.app.pid):
		e.OOM = true
		e.Reason = "the kernel killed the application because the machine ran out of memory"
	}
	return e
}

// parseSignal reads "SIGTERM", "TERM", "term" and "15".
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("%q is not a signal", s)
		}
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if base, offset, ok := realtime(name); ok {
		n := base + offset
		if n < rtMin || n > rtMax {
			return 0, fmt.Errorf("%q is not a signal", s)
		}
		return unix.Signal(n), nil
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("%q is not a signal", s)
}

// The C library's real-time signals; systemd images stop by SIGRTMIN+3.
const rtMin, rtMax = 34, 64

// realtime splits "SIGRTMIN+3" and "SIGRTMAX-1".
func realtime(name string) (base, offset int, ok bool) {
	rest, ok := strings.CutPrefix(name, "SIGRTMIN")
	base = rtMin
	if !ok {
		if rest, ok = strings.CutPrefix(name, "SIGRTMAX"); !ok {
			return 0, 0, false
		}
		base = rtMax
	}
	if rest == "" {
		return base, 0, true
	}
	offset, err := strconv.Atoi(rest)
	return base, offset, err == nil && (rest[0] == '+' || rest[0] == '-')
}
