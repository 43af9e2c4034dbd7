//go:build linux

// Command init is PID 1 of the guest. It mounts the root, sets the network
// up, starts the one application, relays its console, serves the REST API of
// guest/api on the control port, reports how the application ended and powers
// the machine off. Building images, finding hypervisors and all that people
// see is the host's business.
//
// The files follow the order of a boot: main, early, console, config, kernel,
// network, cloud, clock, root, app, supervise, control, finish.
package main

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"

	"capstan/guest/api"
)

// statusFailed is reported where PID 1 could not get as far as starting the
// application.
const statusFailed = 125

// guest is the machine, from PID 1's point of view.
type guest struct {
	log      *log
	cfg      api.Config
	console  *console
	procs    *reaper
	upper    *os.File // the upper device's mount, nil if writes are in memory
	growth   growth
	app      *app
	state    state
	resolver resolver
	leased   netip.Prefix // by DHCP; changed by one goroutine at a time
	stops    chan api.StopRequest
}

func main() {
	started := uptime()
	if os.Getpid() != 1 {
		if len(os.Args) == 2 && os.Args[1] == powerOffArg && isInit() {
			askForEnd()
		}
		fmt.Fprintln(os.Stderr, "capstan's init is PID 1 of a virtual machine and does nothing elsewhere")
		os.Exit(statusFailed)
	}
	// PID 1's own needs are small and its memory is the application's loss.
	runtime.GOMAXPROCS(min(runtime.NumCPU(), 4))
	debug.SetGCPercent(50)

	g := &guest{log: newLog(), stops: make(chan api.StopRequest, 4)}
	g.growth.stop = make(chan struct{})
	g.state.name, g.state.exited = "starting", make(chan struct{})
	exit := g.run(started)
	g.finish(exit)
}

// run boots, starts the application and returns how it ended; started is when PID 1
// began.
func (g *guest) run(started int64) api.Exit {
	if err := g.boot(started); err != nil {
		return api.Exit{Status: statusFailed, Reason: err.Error()}
	}
	if g.cfg.Begin {
		g.begin()
	}
	if g.cfg.StopByNMI {
		g.watchNMI()
	}
	if exit, started := g.startApp(); !started {
		return exit
	}
	g.log.debugf("started process %d", g.app.pid)
	go g.serveControl()
	return g.supervise()
}

// boot does all that must be done before the application can start.
func (g *guest) boot(started int64) error {
	if err := mountEarly(); err != nil {
		return err
	}
	var err error
	if g.console, err = openConsole(); err != nil {
		return err
	}
	var onDisk bool
	if g.cfg, onDisk, err = loadConfig(); err != nil {
		return err
	}
	g.log.verbose = g.cfg.Verbose
	if g.cfg.Console != "" {
		p, err := openSerial(g.cfg.Console)
		if err != nil {
			return err
		}
		if _, err := p.Write([]byte(api.ConsoleHello)); err != nil {
			return fmt.Errorf("writing to the serial port %s: %w", g.cfg.Console, err)
		}
		g.console = &console{p}
	}
	if g.log.verbose {
		g.log.showKernel()
	}
	g.log.debugf("PID 1 began at %d us", started/1000)
	g.log.debugf("read the config")
	g.procs = newReaper()
	g.setKernel()
	keepNetwork, err := g.setNetwork()
	if err != nil {
		return err
	}
	g.log.debugf("set the network up")
	if c, ok := findCloud("/sys/class/dmi/id"); ok && onDisk && !g.cfg.Network.None {
		g.askCloud(c)
		go g.keepClock(c)
	}
	go keepNetwork() // ends with the machine, as keepClock does
	if err := g.mountRoot(); err != nil {
		return err
	}
	g.log.debugf("mounted the root")
	return nil
}
