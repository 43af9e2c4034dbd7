package capstanfile

import (
	"errors"
	"fmt"
	"strings"
)

// splitWords splits a command line into words by the quoting rules of the
// POSIX shell (XCU 2.2): '…', "…" and \. Nothing is expanded: "$", "*", "~"
// and "`" stand for themselves. The shell's operators are refused, because no
// shell will be there to act on them.
func splitWords(line string) ([]string, error) {
	var (
		words []string
		word  strings.Builder
		in    bool // a word has begun, though it may still be empty
	)
	end := func() {
		if in {
			words = append(words, word.String())
			word.Reset()
			in = false
		}
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\n', '\r':
			end()
		case '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, errors.New("a ' is never closed")
			}
			word.WriteString(line[i+1 : i+1+n])
			in = true
			i += n + 1
		case '"':
			n, ok := doubleQuoted(line[i+1:], &word)
			if !ok {
				return nil, errors.New(`a " is never closed`)
			}
			in = true
			i += n
		case '\\':
			i++
			if i == len(line) {
				return nil, errors.New(`it ends in a \`)
			}
			if line[i] != '\n' {
				word.WriteByte(line[i])
				in = true
			}
		case ';', '&', '|', '<', '>':
			return nil, fmt.Errorf("%q is for a shell, and there is none in the guest: "+
				`quote it, or write a list such as ["/bin/sh", "-c", "…"]`, c)
		default:
			word.WriteByte(c)
			in = true
		}
	}
	end()
	return words, nil
}

// doubleQuoted appends to word what stands before the closing quote of s, and
// returns how many bytes of s, the quote included, that took.
func doubleQuoted(s string, word *strings.Builder) (int, bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return i + 1, true
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte("$`\"\\\n", s[i+1]) >= 0:
			i++
			if s[i] != '\n' {
				word.WriteByte(s[i])
			}
		default:
			word.WriteByte(s[i])
		}
	}
	return 0, false
}
