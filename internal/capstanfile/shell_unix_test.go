//go:build unix

package capstanfile

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

// FuzzSplitWords compares with the shell of the machine, on lines in which it
// would expand nothing.
func FuzzSplitWords(f *testing.F) {
	f.Add(`a 'b c' "d\"e" \f`)
	f.Add("a\\\nb '' \"\\\n\"")
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "$`*?[]~#(){}!=\x00\r") {
			return
		}
		for _, r := range line {
			if r > 126 || r < 32 && r != '\n' && r != '\t' {
				return
			}
		}
		got, err := splitWords(line)
		if err != nil || len(got) == 0 {
			return
		}
		// A newline outside quotes would end the shell's command.
		script := "set -f; set -- " + joinLines(line) + "\nfor w; do printf '%s\\0' \"$w\"; done"
		out, err := exec.Command("/bin/sh", "-c", script).Output()
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		want := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, the shell says %q", line, got, want)
		}
	})
}

// joinLines replaces the newlines outside quotes, unless escaped, by blanks.
func joinLines(line string) string {
	out := []byte(line)
	var quote byte
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case c == '\\' && quote != '\'':
			i++
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == quote:
			quote = 0
		case c == '\n' && quote == 0:
			out[i] = ' '
		}
	}
	return string(out)
}
