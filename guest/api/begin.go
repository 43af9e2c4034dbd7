package api

import (
	"bytes"
	"encoding/json"
)

// Begin is what PID 1 says on the console where its config asks for it: here
// the application's output begins, and this is what is known by then. Before
// it come the firmware's words and the kernel's.
type Begin struct {
	// Address is eth0's, "" without any.
	Address string `json:"address,omitempty"`
	// Boot is another one at each start, so that no two say the same.
	Boot string `json:"boot,omitempty"`
}

// beginPrefix begins the report's line.
var beginPrefix = []byte("\ncapstan-begin: ")

// FormatBegin returns the report, plain ASCII as the exit report is.
func FormatBegin(b Begin) []byte {
	doc, err := json.Marshal(b)
	if err != nil {
		panic(err) // a struct of strings always marshals
	}
	return append(append(bytes.Clone(beginPrefix), doc...), '\n')
}

// ParseBegin finds the first report in console output, and where it ends.
func ParseBegin(console []byte) (b Begin, end int, ok bool) {
	at := bytes.Index(console, beginPrefix)
	if at < 0 {
		return Begin{}, 0, false
	}
	return parseBegin(console, at)
}

// LastBegin is ParseBegin for the console of a machine that was started more
// than once: what comes before its last report is of earlier starts.
func LastBegin(console []byte) (b Begin, end int, ok bool) {
	at := bytes.LastIndex(console, beginPrefix)
	if at < 0 {
		return Begin{}, 0, false
	}
	return parseBegin(console, at)
}

func parseBegin(console []byte, at int) (b Begin, end int, ok bool) {
	doc := console[at+len(beginPrefix):]
	n := bytes.IndexByte(doc, '\n')
	if n < 0 || json.Unmarshal(doc[:n], &b) != nil {
		return Begin{}, 0, false
	}
	return b, at + len(beginPrefix) + n + 1, true
}
