//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

const (
	// endWait bounds the wait for killed processes.
	endWait = 5 * time.Second
	// drainStall is how long the console may take nothing before the rest
	// of the output is given up.
	drainStall = 5 * time.Second
)

// finish ends all that runs, brings the writable disks to rest, reports e and
// powers off. It does not return.
func (g *guest) finish(e api.Exit) {
	g.log.debugf("the end: status %d", e.Status)
	if g.procs != nil && !g.procs.end(endWait) {
		g.log.warnf("some processes could not be killed")
	}
	if g.app != nil && !g.app.output.drain(drainStall) {
		g.log.warnf("the console did not take the rest of the output")
	}
	g.growth.end()
	if err := g.settleDisks(); err != nil {
		g.log.warnf("%v", err)
	}
	g.report(e)
	g.state.end(e)
	powerOff(g.log)
}

// report writes the exit report, the console's last line.
func (g *guest) report(e api.Exit) {
	if g.console == nil {
		fmt.Fprintf(os.Stderr, "capstan: %s\r\n", e.Reason)
		os.Stderr.Write(api.FormatExit(e))
		return
	}
	boot := ""
	if g.cfg.Begin {
		boot = bootID()
	}
	report := api.FormatExitOf(boot, e)
	if !g.console.serial && g.cfg.Console == "" {
		// Not even the kernel's last words ("reboot: Power down") come behind it.
		_ = setAttribute("/proc/sys/kernel/printk", "0")
	}
	if e.Reason != "" && !g.console.serial {
		// Nobody but people reads the kernel's console.
		report = append([]byte("\ncapstan: "+e.Reason), report...)
	}
	if err := g.console.writeLast(report, drainStall); err != nil {
		g.log.warnf("reporting the exit status: %v", err)
	}
}

// settleDisks writes all that is in memory to the disks and leaves their file
// systems clean.
func (g *guest) settleDisks() error {
	if g.upper == nil && len(g.cfg.Mounts) == 0 {
		return nil
	}
	unix.Sync()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("listing the mounts: %w", err)
	}
	for _, target := range slices.Backward(mountTargets(string(mounts))) {
		// Those still in use are covered by the sync.
		_ = unix.Unmount(target, 0)
	}
	if g.upper == nil {
		return nil
	}
	own := fmt.Sprintf("/proc/self/fd/%d", g.upper.Fd())
	if err := unix.Mount("", own, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("bringing the writable disk to rest: %w", err)
	}
	return nil
}

// mountTargets returns where the lines of /proc/self/mounts say that file
// systems are, but for those that PID 1 itself needs.
func mountTargets(mounts string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var targets []string
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch target := unescape.Replace(fields[1]); target {
		case "/", "/proc", "/dev", "/sys":
		default:
			targets = append(targets, target)
		}
	}
	return targets
}

// powerOff ends the machine. An x86 machine without ACPI has no way to be
// switched off and is reset instead, which its hypervisor takes for the end.
func powerOff(l *log) {
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if runtime.GOARCH == "amd64" && !exists("/sys/firmware/acpi/tables") && !exists("/sys/hypervisor/type") {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	err := unix.Reboot(how)
	l.warnf("switching the machine off: %v", err)
	os.Exit(1) // the kernel panics and resets
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
