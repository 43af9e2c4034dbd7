//go:build linux

package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// readStats reads the guest's counters. What a kernel does not have is 0.
func readStats() api.Stats {
	s := api.Stats{CPUs: runtime.NumCPU()}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err == nil {
		s.Uptime = time.Duration(up.Nano())
	}
	stat, _ := os.ReadFile("/proc/stat")
	s.CPUTime = cpuTime(string(stat))
	meminfo, _ := os.ReadFile("/proc/meminfo")
	s.MemoryTotal = meminfoBytes(string(meminfo), "MemTotal")
	s.MemoryUsed = s.MemoryTotal - meminfoBytes(string(meminfo), "MemAvailable")
	s.NetRx = counter("/sys/class/net/" + device + "/statistics/rx_bytes")
	s.NetTx = counter("/sys/class/net/" + device + "/statistics/tx_bytes")
	disks, _ := filepath.Glob("/sys/block/*/stat") // the pattern is right
	for _, path := range disks {
		text, _ := os.ReadFile(path)
		read, written := blockBytes(string(text))
		s.BlockRead += read
		s.BlockWrite += written
	}
	s.Processes = countProcesses()
	return s
}

// cpuTime adds up what the processors did besides idling, from /proc/stat
// (proc(5): user, nice, system, idle, iowait, irq, softirq, steal, in units
// of 1/100 s).
func cpuTime(stat string) time.Duration {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	var ticks int64
	for i, f := range fields {
		switch i {
		case 1, 2, 3, 6, 7:
			ticks += number(f)
		}
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// meminfoBytes returns an entry of /proc/meminfo, in bytes.
func meminfoBytes(meminfo, name string) int64 {
	for line := range strings.Lines(meminfo) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				return number(fields[0]) << 10
			}
		}
	}
	return 0
}

// blockBytes reads /sys/block/*/stat (kernel
// Documentation/block/stat.rst: sectors read and written are the third and
// the seventh field, of 512 bytes).
func blockBytes(stat string) (read, written int64) {
	fields := strings.Fields(stat)
	if len(fields) < 7 {
		return 0, 0
	}
	return number(fields[2]) * 512, number(fields[6]) * 512
}

// countProcesses counts all but PID 1 and the kernel's threads, which are
// process 2 and its children.
func countProcesses() int {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	var n int
	for _, d := range dirs {
		pid := number(d.Name())
		if pid <= 2 {
			continue
		}
		stat, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err == nil && parent(string(stat)) != 2 {
			n++
		}
	}
	return n
}

// parent returns the fourth field of /proc/PID/stat. The second, the name in
// brackets, may contain anything.
func parent(stat string) int64 {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	return number(fields[1])
}

func counter(path string) int64 { return number(attribute(path)) }

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
