//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sysctls are the settings that servers otherwise warn about or are slow
// without, and those whose defaults shrink with the machine's memory: the one
// application may have all of it. Those that a kernel lacks are passed over.
// vm.overcommit_memory is 1 in our kernel: PID 1's own runtime needs it.
var sysctls = []struct{ name, value string }{
	{"fs.aio-max-nr", "1048576"},
	{"fs.file-max", "9223372036854775807"},
	{"fs.inotify.max_user_instances", "8192"},
	{"fs.inotify.max_user_watches", "1048576"},
	{"kernel.pid_max", "4194304"},
	// How the kernel passes on that a host wants the end (Xen's xl shutdown,
	// Hyper-V): a program of the root file system by default.
	{"kernel.poweroff_cmd", "/proc/1/exe " + powerOffArg},
	{"kernel.threads-max", "1048576"},
	{"net.core.rmem_max", "16777216"},
	{"net.core.somaxconn", "65535"},
	{"net.core.wmem_max", "16777216"},
	{"net.ipv4.ip_unprivileged_port_start", "0"},
	{"net.ipv4.ping_group_range", "0 2147483647"},
	{"net.ipv4.tcp_max_syn_backlog", "65535"},
	{"net.ipv4.tcp_slow_start_after_idle", "0"},
	{"vm.max_map_count", "1048576"},
	{"vm.swappiness", "1"},
}

// limits are those of the application, inherited from PID 1.
var limits = []struct {
	resource   int
	soft, hard uint64
}{
	{unix.RLIMIT_NOFILE, 1 << 20, 1 << 20},
	{unix.RLIMIT_NPROC, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{unix.RLIMIT_MEMLOCK, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{unix.RLIMIT_SIGPENDING, 1 << 20, 1 << 20},
	{unix.RLIMIT_CORE, 0, unix.RLIM_INFINITY},
}

// setKernel sets limits, kernel parameters, the clock and the host's name.
// None of them is worth failing for.
func (g *guest) setKernel() {
	unix.Umask(0o022)
	for _, l := range limits {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.soft, Max: l.hard}); err != nil {
			g.log.warnf("setting resource limit %d: %v", l.resource, err)
		}
	}
	for _, s := range sysctls {
		if err := setSysctl("/proc/sys", s.name, s.value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.log.warnf("%v", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.cfg.Sysctls)) {
		if err := setSysctl("/proc/sys", name, g.cfg.Sysctls[name]); err != nil {
			g.log.warnf("%v", err)
		}
	}
	const hugepages = "/sys/kernel/mm/transparent_hugepage/enabled"
	if err := setAttribute(hugepages, "madvise"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.log.warnf("%v", err)
	}
	if err := unix.Sethostname([]byte(g.hostname())); err != nil {
		g.log.warnf("setting the host name %q: %v", g.hostname(), err)
	}
	// The config was written before the machine's boot: no clock device, which
	// counts in seconds, may say less than that and the time since.
	if t := g.cfg.Time + uptime(); g.cfg.Time > 0 && t > time.Now().UnixNano() {
		tv := unix.NsecToTimeval(t)
		if err := unix.Settimeofday(&tv); err != nil {
			g.log.warnf("setting the clock: %v", err)
		}
	}
}

func (g *guest) hostname() string {
	if g.cfg.Hostname == "" {
		return "capstan"
	}
	return g.cfg.Hostname
}

// setSysctl sets a kernel parameter below root. Dots separate the name's
// parts, or slashes, as sysctl(8) has it, where a part contains a dot.
func setSysctl(root, name, value string) error {
	path := name
	if !strings.Contains(name, "/") {
		path = strings.ReplaceAll(name, ".", "/")
	}
	if !filepath.IsLocal(path) {
		return fmt.Errorf("setting the kernel parameter %q: no such name", name)
	}
	if err := setAttribute(filepath.Join(root, path), value); err != nil {
		return fmt.Errorf("setting the kernel parameter %s to %q: %w", name, value, err)
	}
	return nil
}
