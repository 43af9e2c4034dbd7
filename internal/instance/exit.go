package instance

import (
	"bytes"
	"io"
	"os"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// Exit statuses of instances whose application could not tell its own.
const (
	// ExitPanic: the guest's kernel panicked.
	ExitPanic = 124
	// ExitLost: the hypervisor or the supervisor ended under the instance.
	ExitLost = 125
	// ExitKilled: somebody cut the power.
	ExitKilled = 128 + 9
)

// classify tells how an instance ended from what its console's last line
// said, if it said anything, and how the machine went.
func classify(report api.Exit, reported bool, end hypervisor.End, kernelLog string) (Status, api.Exit, string) {
	if reported {
		return Exited, report, report.Reason
	}
	switch end.Cause {
	case hypervisor.Killed:
		return Exited, api.Exit{Status: ExitKilled, Signal: 9}, "killed"
	case hypervisor.PoweredOff:
		reason := panicMessage(kernelLog)
		if reason == "" {
			return Dead, api.Exit{Status: ExitPanic}, "the guest reset without a report"
		}
		return Dead, api.Exit{Status: ExitPanic}, "kernel panic: " + reason
	default:
		reason := "the hypervisor ended unexpectedly"
		if end.Detail != "" {
			reason += ": " + end.Detail
		}
		return Dead, api.Exit{Status: ExitLost}, reason
	}
}

// panicMessage finds the panic's cause at the end of the kernel's log.
func panicMessage(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const window = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > window {
		if _, err := f.Seek(-window, io.SeekEnd); err != nil {
			return ""
		}
	}
	tail, err := io.ReadAll(io.LimitReader(f, window))
	if err != nil {
		return ""
	}
	marker := []byte("Kernel panic - not syncing: ")
	at := bytes.LastIndex(tail, marker)
	if at < 0 {
		return ""
	}
	line, _, _ := bytes.Cut(tail[at+len(marker):], []byte("\n"))
	return string(bytes.TrimSpace(line))
}
