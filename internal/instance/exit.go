package instance

import (
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
func classify(report api.Exit, reported bool, end hypervisor.End) (Status, api.Exit, string) {
	if reported {
		return Exited, report, report.Reason
	}
	switch end.Cause {
	case hypervisor.Killed:
		return Exited, api.Exit{Status: ExitKilled, Signal: 9}, "killed"
	case hypervisor.PoweredOff:
		reason := end.Detail // a kernel's panic
		if reason == "" {
			reason = "the guest reset without a report"
		}
		return Dead, api.Exit{Status: ExitPanic}, reason
	default:
		reason := "the hypervisor ended unexpectedly"
		if end.Detail != "" {
			reason += ": " + end.Detail
		}
		return Dead, api.Exit{Status: ExitLost}, reason
	}
}
