package capstanfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// maxReported bounds how many mistakes of one file are reported.
const maxReported = 20

// Error is one mistake in a Capstanfile, a .capstanignore, or a file that
// describes a package.
type Error struct {
	File       string // as the caller named it
	Line       int    // from 1; 0 where the mistake has no line
	Column     int    // from 1; 0 where the mistake has no column
	Key        string // the key, or "key entry" for an entry of a map or list; may be empty
	Problem    string // what is wrong
	Expected   string // what would have been right; may be empty
	Suggestion string // a word that was probably meant; may be empty

	acted bool // it showed when the file was acted upon
}

// Error returns the mistake on one line:
//
//	Capstanfile:7: memroy: unknown key (did you mean "memory"?)
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Problem)
	var hints []string
	if e.Expected != "" {
		hints = append(hints, "expected "+e.Expected)
	}
	if e.Suggestion != "" {
		hints = append(hints, fmt.Sprintf("did you mean %q?", e.Suggestion))
	}
	if len(hints) > 0 {
		b.WriteString(" (" + strings.Join(hints, "; ") + ")")
	}
	return b.String()
}

// Hint is the way out.
func (e *Error) Hint() string {
	if filepath.Base(e.File) == IgnoreName {
		return "one pattern a line, such as /build or /**/*.o"
	}
	if file := filepath.ToSlash(e.File); strings.HasSuffix(file, PackageName) || strings.HasSuffix(file, RunName) {
		return "capstan package --help explains the keys"
	}
	if e.acted {
		return "mend that line, or what it names"
	}
	return "capstan build --help explains the keys"
}

// join returns the mistakes in the order of their lines as one error, or nil.
func join(mistakes []*Error) error {
	slices.SortStableFunc(mistakes, func(a, b *Error) int { return a.Line - b.Line })
	errs := make([]error, 0, min(len(mistakes), maxReported+1))
	for i, m := range mistakes {
		if i == maxReported {
			errs = append(errs, &Error{
				File:    m.File,
				Line:    m.Line,
				Problem: fmt.Sprintf("and %d more mistakes", len(mistakes)-i),
			})
			break
		}
		errs = append(errs, m)
	}
	return errors.Join(errs...)
}

// clip shortens s to what fits into a message and keeps it on one line.
func clip(s string) string {
	const most = 60
	runes := []rune(s)
	if len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
