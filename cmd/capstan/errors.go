package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"capstan/internal/cloud/ec2"
	"capstan/internal/cloud/gce"
	"capstan/internal/hypervisor"
	"capstan/internal/instance"
	"capstan/internal/repo"
)

// Exit statuses, as docs/exit-status.md lists them.
const (
	exitError   = 1
	exitUsage   = 2
	exitFailure = 125 // of capstan itself, where an application's status is expected

	exitInterrupted = 130
)

// statusError carries the status with which the process ends, where the
// reason was said already or needs no words.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a wrong command line.
type usageError struct {
	cmd *cobra.Command
	err error
}

func usage(cmd *cobra.Command, err error) error { return &usageError{cmd, err} }

func (e *usageError) Error() string { return e.err.Error() }

// Hint is the cause's, where it knows one.
func (e *usageError) Hint() string {
	var own interface{ Hint() string }
	if errors.As(e.err, &own) {
		return own.Hint()
	}
	return "see " + e.cmd.CommandPath() + " --help"
}

// hinted is an error that knows the way out.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }
func (e *hinted) Hint() string  { return e.hint }

// notStarted is an application that could not be started, and the exit status
// that says why.
type notStarted struct {
	name, reason string
	status       int
}

func (e *notStarted) Error() string { return e.name + ": " + e.reason }

// interruptedError is an interrupt after which something is left, or goes on by
// itself.
type interruptedError struct{ left, hint string }

func (e *interruptedError) Error() string { return "interrupted; " + e.left }
func (e *interruptedError) Unwrap() error { return context.Canceled }
func (e *interruptedError) Hint() string  { return e.hint }

// interruption is an error that came once an interrupt had: it is the interrupt's
// doing, or hides it.
type interruption struct{ err error }

func (e *interruption) Error() string   { return e.err.Error() }
func (e *interruption) Unwrap() []error { return []error{context.Canceled, e.err} }

// interrupted is the error of work whose end an interrupt is, by its context:
// whatever has failed at that moment, the interrupt is what is told.
func interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return &interruption{err}
}

// report says what went wrong and returns the exit status.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	var status statusError
	if errors.As(err, &status) {
		return int(status)
	}
	interrupted := errors.Is(err, context.Canceled)
	if interrupted {
		tellLeft(cmd, err)
	}
	if interrupted && !errors.As(err, new(*leftError)) && !errors.As(err, new(*interruptedError)) {
		fmt.Fprintln(w, "capstan: interrupted")
		return exitInterrupted
	}
	_, _, unknown := unknownCommand(err)
	for _, e := range apart(err) {
		for _, line := range strings.Split(message(e), "\n") {
			fmt.Fprintf(w, "capstan: %s\n", line)
		}
		if hint := wayOut(cmd, e); hint != "" {
			fmt.Fprintf(w, "  try: %s\n", hint)
		}
	}
	var wrongUse *usageError
	var idle *notStarted
	switch {
	case errors.As(err, &idle):
		return idle.status
	case interrupted:
		return exitInterrupted
	case unknown, errors.As(err, &wrongUse):
		return exitUsage
	case runsApplication(cmd):
		return exitFailure
	default:
		return exitError
	}
}

// tellLeft tells what an interrupt has left of an image in a cloud, and what
// becomes of it.
func tellLeft(cmd *cobra.Command, err error) {
	tellOf[*ec2.KeptError](cmd, err)
	tellOf[*gce.CutError](cmd, err)
	tellOf[*gce.LeftError](cmd, err)
	tellOf[*gce.LeftImageError](cmd, err)
}

// tellOf tells of an error of one kind, where there is one below err.
func tellOf[T interface {
	error
	Hint() string
}](cmd *cobra.Command, err error) {
	var left T
	if errors.As(err, &left) {
		note(cmd, "%v\n  try: %s", left, left.Hint())
	}
}

// apart takes errors of several things apart, where their ways out differ.
func apart(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, apart(e)...)
	}
	same := func(e error) bool { return hintFor(e) == hintFor(all[0]) }
	// What is wrapped with other words is one sentence.
	if errors.Join(all...).Error() != err.Error() || !slices.ContainsFunc(all, func(e error) bool { return !same(e) }) {
		return []error{err}
	}
	return all
}

// wayOut is what may help against an error, "" where nobody knows.
func wayOut(cmd *cobra.Command, err error) string {
	if word, of, unknown := unknownCommand(err); unknown {
		return firstOf(otherWords[word], "see "+of+" --help")
	}
	return firstOf(hintFor(err), systemHint(cmd, err))
}

// unknownCommand tells cobra's error of an unknown command, its word and what
// has no such command.
func unknownCommand(err error) (word, of string, ok bool) {
	_, scanErr := fmt.Sscanf(err.Error(), "unknown command %q for %q", &word, &of)
	return word, of, scanErr == nil
}

// systemHint is the way out where the system refuses something.
func systemHint(cmd *cobra.Command, err error) string {
	given, _ := cmd.Root().PersistentFlags().GetString("root")
	root, rootErr := rootFolder(firstOf(given, os.Getenv("CAPSTAN_ROOT")))
	var path *fs.PathError
	ours := rootErr == nil && errors.As(err, &path) && strings.HasPrefix(path.Path, root)
	missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	switch {
	case errors.Is(err, fs.ErrPermission) && ours:
		return rootHint + "; or have the owner of " + root + " give it to this user"
	case errors.Is(err, fs.ErrPermission):
		return "have its owner or root let this user: chmod, chown"
	case ours && (missing || errors.Is(err, syscall.EISDIR)):
		return "capstan doctor; or move away what is in the place of " + path.Path
	case missing:
		return "check the name: it is one as seen from this directory"
	case errors.Is(err, syscall.EISDIR):
		return "the name of a file"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "fetch or make the file again: it ends too early"
	}
	return ""
}

// message is one sentence. What is wrong with the store says itself what that
// is of; on the way to it there are names of files that are gone by now.
// Cobra's list of similar commands comes on the error's own line.
func message(err error) string {
	var corrupt *repo.CorruptError
	var full *repo.FullError
	switch {
	case errors.As(err, &corrupt):
		return corrupt.Error()
	case errors.As(err, &full):
		return full.Error()
	}
	text, similar, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if word, _, _ := unknownCommand(err); ok && otherWords[word] == "" {
		text += " (did you mean " + strings.Join(strings.Fields(similar), " or ") + "?)"
	}
	return strings.TrimSpace(text)
}

// runsApplication tells commands whose exit status is the application's.
func runsApplication(cmd *cobra.Command) bool {
	return cmd.Name() == "run" || cmd.Name() == "wait"
}

func hintFor(err error) string {
	var own interface{ Hint() string }
	if errors.As(err, &own) {
		return own.Hint()
	}
	for _, known := range []struct {
		err  error
		hint string
	}{
		{instance.ErrExists, "another --name, or capstan rm of the old one"},
		{instance.ErrNotFound, "capstan ps -a lists them"},
		{instance.ErrRunning, "capstan stop it first"},
		{instance.ErrNotRunning, "capstan start it first"},
		{hypervisor.ErrPortInUse, "another host port, or 0 for any free one: -p 0:PORT"},
	} {
		if errors.Is(err, known.err) {
			return known.hint
		}
	}
	return ""
}
