package qemu

import (
	"errors"
	"fmt"
	"strings"
)

// Refusals of QEMUs that were built without something that Start can do
// without: seccomp, and, as in Red Hat's, the machine microvm.
var (
	errNoSandbox = errors.New("this QEMU has no sandbox")
	errNoMicrovm = errors.New("this QEMU has no machine microvm")
)

// explain makes one sentence of the last words of a QEMU that would not start.
func explain(proc *process, l *launch) error {
	line := withoutOption(proc.stderr.lastLine(), proc.cmd.Args)
	has := func(words string) bool { return strings.Contains(line, words) }
	switch {
	case l.sandbox && (has("sandbox") || has("seccomp")):
		return errNoSandbox
	case l.machine() == "microvm" && has("machine type"):
		return errNoMicrovm
	case has("host forwarding rule"):
		return explainForward(line, l.spec.Ports)
	case has("Is another process using the image"):
		return errors.New("a disk of this instance is in use by another machine")
	case has("cannot set up guest memory"), has("Cannot allocate memory"):
		return fmt.Errorf("this host has too little memory for a machine of %d MiB", mebibytes(l.spec.Memory))
	case has("initrd is too large"), has("kernel too large"):
		return fmt.Errorf("%d MiB are too little memory for the guest", mebibytes(l.spec.Memory))
	case has("invalid accelerator"), has("failed to initialize " + l.accel), has("Could not access KVM"):
		return fmt.Errorf("QEMU cannot use the accelerator %q: %s", l.accel, line)
	case line == "":
		return fmt.Errorf("QEMU ended at its start: %s", proc.failure())
	}
	return fmt.Errorf("QEMU would not start: %s", line)
}

// withoutOption cuts off the option that QEMU repeats before its complaint:
// "-device rtl8139: no such device".
func withoutOption(line string, args []string) string {
	for i := 1; i < len(args); i++ {
		if rest, ok := strings.CutPrefix(line, args[i-1]+" "+args[i]+": "); ok {
			return rest
		}
	}
	return line
}
