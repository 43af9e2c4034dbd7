package api

import (
	"bytes"
	"testing"
)

func TestExitSurvivesTheConsole(t *testing.T) {
	want := Exit{Status: 137, Signal: 9, OOM: true, Reason: "the kernel ran out of memory"}
	report := FormatExit(want)
	for name, console := range map[string][]byte{
		"plain":          append([]byte("last words"), report...),
		"after newline":  append([]byte("last words\n"), report...),
		"no output":      report,
		"terminal's CRs": bytes.ReplaceAll(append([]byte("last words"), report...), []byte("\n"), []byte("\r\n")),
		"look-alike":     append([]byte("\ncapstan-exit: {}\nlast words"), report...),
	} {
		rest, got, ok := ParseExit(console)
		if !ok || got != want {
			t.Errorf("%s: got %+v, %v", name, got, ok)
		}
		if name == "no output" && len(rest) != 0 {
			t.Errorf("%s: left %q", name, rest)
		}
		if name == "plain" && string(rest) != "last words" {
			t.Errorf("%s: left %q", name, rest)
		}
	}
	for _, console := range []string{"", "words\n", "\ncapstan-exit: {", "\ncapstan-exit: {}\nmore"} {
		if rest, _, ok := ParseExit([]byte(console)); ok || string(rest) != console {
			t.Errorf("%q: taken for a report", console)
		}
	}
}

// Whatever the pieces in which a console arrives, a relay that follows
// HoldBack passes on the application's bytes and nothing of the report.
func TestHoldBackInPieces(t *testing.T) {
	output := []byte("one\n\nca\ncapstan-exit: {}\ntwo\ncapstan-ex\n")
	console := append(bytes.Clone(output), FormatExit(Exit{Status: 3})...)
	for size := 1; size <= len(console); size++ {
		var held, passed []byte
		for rest := console; len(rest) > 0; {
			n := min(size, len(rest))
			held, rest = append(held, rest[:n]...), rest[n:]
			keep := HoldBack(held)
			passed, held = append(passed, held[:len(held)-keep]...), held[len(held)-keep:]
		}
		tail, e, ok := ParseExit(held)
		if got := append(passed, tail...); !ok || e.Status != 3 || !bytes.Equal(got, output) {
			t.Errorf("pieces of %d: %q, %+v, %v", size, got, e, ok)
		}
	}
}
