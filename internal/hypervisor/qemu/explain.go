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
		return &startError{fmt.Sprintf("this host has too little memory for a machine of %d MiB", mebibytes(l.spec.Memory)), "less memory for it, or stop other machines"}
	case has("initrd is too large"), has("kernel too large"):
		return &startError{fmt.Sprintf("%d MiB are too little memory for the guest", mebibytes(l.spec.Memory)), "more memory for it"}
	case has("invalid accelerator"), has("failed to initialize " + l.accel), has("Could not access KVM"):
		return &startError{fmt.Sprintf("QEMU cannot use the accelerator %q: %s", l.accel, line), "let Capstan choose the accelerator; capstan doctor says which works"}
	case line == "":
		return &startError{"QEMU ended at its start: " + proc.failure(), doctor}
	}
	return &startError{"QEMU would not start: " + line, doctor}
}

const doctor = "capstan doctor looks at QEMU and the accelerator"

// startError is why QEMU would not run a machine.
type startError struct{ text, hint string }

func (e *startError) Error() string { return e.text }

// Hint is the way out.
func (e *startError) Hint() string { return e.hint }

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
