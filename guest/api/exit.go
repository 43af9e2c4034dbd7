package api

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Exit is how the application ended.
type Exit struct {
	// Status is what a shell would show: the exit code, 128+signal, 126
	// for a file that cannot be executed, 127 for one that does not exist.
	Status int `json:"status"`
	// Signal is the number of the signal that ended it, 0 if none did.
	Signal int `json:"signal,omitempty"`
	// OOM is set where the kernel killed it for want of memory.
	OOM bool `json:"oom,omitempty"`
	// Reason is one plain sentence where the status alone does not tell,
	// such as why the application could not be started.
	Reason string `json:"reason,omitempty"`
}

// Unstarted reports whether the application was never started. Of one that
// ran, PID 1 gives a reason only where a signal ended it.
func (e Exit) Unstarted() bool { return e.Reason != "" && e.Signal == 0 }

// exitPrefix begins the console's last line. The newline in front is part of
// the report, so that the application's own last bytes stay as they were.
var exitPrefix = []byte("\ncapstan-exit: ")

// FormatExit returns the report that PID 1 writes as the console's last
// line: plain ASCII, which survives any hypervisor's console.
func FormatExit(e Exit) []byte { return FormatExitOf("", e) }

// FormatExitOf is FormatExit where the start's Begin said a Boot, so that
// consoles of two starts do not end with the same bytes.
func FormatExitOf(boot string, e Exit) []byte {
	// The common case without encoding/json, whose first use keeps a guest
	// without acceleration busy for some 10 ms.
	doc := []byte(`{"status":` + strconv.Itoa(e.Status) + `}`)
	if boot != "" || e != (Exit{Status: e.Status}) {
		var err error
		doc, err = json.Marshal(struct {
			Exit
			Boot string `json:"boot,omitempty"`
		}{e, boot})
		if err != nil {
			panic(err) // a struct of ints, bools and strings always marshals
		}
	}
	return append(append(bytes.Clone(exitPrefix), doc...), '\n')
}

// ParseExit finds the report at the end of console output and returns the
// output without it. Carriage returns that a terminal's line discipline put
// before the newlines are tolerated.
func ParseExit(console []byte) (rest []byte, e Exit, ok bool) {
	at := bytes.LastIndex(console, exitPrefix)
	if at < 0 {
		return console, Exit{}, false
	}
	doc := console[at+len(exitPrefix):]
	if !bytes.HasSuffix(doc, []byte("\n")) || json.Unmarshal(doc, &e) != nil {
		return console, Exit{}, false
	}
	return bytes.TrimSuffix(console[:at], []byte("\r")), e, true
}

// HoldBack returns how many bytes at the end of console may belong to an exit
// report that has not arrived as a whole: a relay passes on what stands
// before them.
func HoldBack(console []byte) int {
	if at := bytes.LastIndex(console, exitPrefix); at >= 0 {
		tail := console[at+len(exitPrefix):]
		if nl := bytes.IndexByte(tail, '\n'); nl < 0 || nl == len(tail)-1 {
			if len(tail) <= maxExitLine {
				return len(console) - at
			}
		}
	}
	for n := min(len(exitPrefix), len(console)); n > 0; n-- {
		if bytes.HasSuffix(console, exitPrefix[:n]) {
			return n
		}
	}
	return 0
}

// maxExitLine bounds how much of an application's own look-alike line a relay
// keeps waiting.
const maxExitLine = 4096
