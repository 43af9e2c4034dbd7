//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// log is for the kernel's console: warnings always, the rest if verbose.
type log struct {
	out     *os.File
	verbose bool
}

// newLog uses the standard error that the kernel opened for PID 1.
func newLog() *log { return &log{out: os.Stderr} }

func (l *log) debugf(format string, args ...any) {
	if !l.verbose {
		return
	}
	up := uptime() / 1e6
	l.warnf("[%d.%03d] %s", up/1000, up%1000, fmt.Sprintf(format, args...))
}

// uptime is the time since the machine's boot, in nanoseconds.
func uptime() int64 {
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) // always there
	return up.Nano()
}

// warnf says in one line that something is not as it should be.
func (l *log) warnf(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	fmt.Fprintf(l.out, "capstan: %s\r\n", line)
}

// showKernel lets the kernel say all that it does, where its command line was
// made before anybody could ask for that.
func (l *log) showKernel() {
	const (
		printk     = "/proc/sys/kernel/printk"
		everything = "7"
		readAll    = 3 // syslog(2)
	)
	if level, _, _ := strings.Cut(attribute(printk), "\t"); level == everything {
		return
	}
	said := make([]byte, 256<<10)
	if n, err := unix.Klogctl(readAll, said); err == nil {
		l.out.Write(bytes.ReplaceAll(said[:n], []byte("\n"), []byte("\r\n")))
	}
	if err := setAttribute(printk, everything); err != nil {
		l.warnf("setting what the kernel says: %v", err)
	}
}
