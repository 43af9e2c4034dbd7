package capstanfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// IgnoreName is the name of the file that says what is not to be copied.
const IgnoreName = ".capstanignore"

// alwaysIgnored is what old Capstan left out of every image unasked: its own
// folders, and those of version control.
func alwaysIgnored() []string {
	return []string{"/meta/*", "/mpm-pkg", "/.git", "/.capstanignore", "/.gitignore", "/volumes"}
}

// Ignore tells which paths a .capstanignore leaves out.
//
// A pattern is one line and begins with "/", the directory that holds the
// .capstanignore. "*" stands for any part of one name, "/**/" for any number
// of directories, none included; a final "/*" is all that lies below a
// directory, which itself stays. A directory that matches takes all below it
// along. There are no exceptions ("!"). Lines that begin with "#" are comments.
type Ignore struct {
	patterns []pattern
}

type pattern struct {
	names   []string // elements; "**" is any number of them
	builtin bool
}

// ReadIgnore reads the .capstanignore at path. Where there is none, only what
// is always ignored is.
func ReadIgnore(path string) (*Ignore, error) {
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ParseIgnore(path, nil)
	}
	if err != nil {
		return nil, err
	}
	return ParseIgnore(path, data)
}

// ParseIgnore checks the text of a .capstanignore. The name is for messages.
// All mistakes are reported at once, joined in the order of their lines.
func ParseIgnore(name string, data []byte) (*Ignore, error) {
	if len(data) > maxSize {
		return nil, &Error{File: name, Problem: "larger than 1 MiB", Expected: "a short text file"}
	}
	ig := &Ignore{}
	for _, s := range alwaysIgnored() {
		ig.patterns = append(ig.patterns, pattern{split(s), true})
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var mistakes []*Error
	line := 0
	for raw := range bytes.Lines(data) {
		line++
		s := strings.TrimSpace(string(raw))
		if s == "" || strings.HasPrefix(s, "#") {
			continue
		}
		if e := checkPattern(s); e != nil {
			e.File, e.Line, e.Column = name, line, 1
			mistakes = append(mistakes, e)
			continue
		}
		ig.patterns = append(ig.patterns, pattern{split(s), false})
	}
	if err := join(mistakes); err != nil {
		return nil, err
	}
	return ig, nil
}

// checkPattern returns what is wrong with a pattern, or nil.
func checkPattern(s string) *Error {
	names := split(s)
	switch {
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return &Error{Problem: "not text", Expected: "a pattern such as /build or /**/*.o"}
	case strings.HasPrefix(s, "!"):
		return &Error{Key: oneLine(s), Problem: `exceptions ("!") are not supported`,
			Expected: "patterns of what to leave out"}
	case !strings.HasPrefix(s, "/"):
		return &Error{Key: oneLine(s), Problem: `a pattern must begin with "/"`,
			Expected: fmt.Sprintf("%q here, %q anywhere", "/"+s, "/**/"+s)}
	case slices.Contains(names, "..") || slices.Contains(names, "."):
		return &Error{Key: oneLine(s), Problem: `"." and ".." are not allowed in a pattern`}
	case len(names) == 0:
		return &Error{Key: oneLine(s), Problem: "would leave out everything", Expected: `"/*" if that is meant`}
	case len(names) == 1 && names[0] == "meta":
		return &Error{Key: s, Problem: "the directory itself cannot be ignored, because " +
			"Capstan reads the package's own description in it; what is in it never " +
			"goes into an image anyway, so remove this line"}
	}
	return nil
}

// split returns the elements of a pattern. A final "**" is a final "*".
func split(s string) []string {
	names := strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
	for len(names) > 1 && names[len(names)-1] == "**" && names[len(names)-2] == "**" {
		names = names[:len(names)-1]
	}
	if n := len(names); n > 0 && names[n-1] == "**" {
		names[n-1] = "*"
	}
	return names
}

// Match reports whether a path is left out by itself: whoever walks a tree
// does not look below a directory that is. The path is slash separated and
// relative to the directory of the .capstanignore.
func (ig *Ignore) Match(name string) bool {
	ignored, _ := ig.match(name)
	return ignored
}

// Builtin reports whether it is only the always-ignored list, and no line of
// the file, that leaves a path out by itself.
func (ig *Ignore) Builtin(name string) bool {
	ignored, asked := ig.match(name)
	return ignored && !asked
}

// MatchTree reports whether a path or a directory above it is left out.
func (ig *Ignore) MatchTree(name string) bool {
	for name = clean(name); name != ""; {
		if ig.Match(name) {
			return true
		}
		name = name[:max(strings.LastIndexByte(name, '/'), 0)]
	}
	return false
}

func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

func (ig *Ignore) match(name string) (ignored, asked bool) {
	if ig == nil {
		return false, false
	}
	name = clean(name)
	if name == "" {
		return false, false
	}
	for _, p := range ig.patterns {
		if matchNames(p.names, name) {
			ignored = true
			asked = asked || !p.builtin
		}
	}
	return ignored, asked
}

// matchNames matches elements against a path. On a mismatch it goes back to
// the last "**" only, which is enough and keeps it quadratic.
func matchNames(names []string, name string) bool {
	i, back, rest := 0, -1, ""
	for name != "" {
		if i < len(names) && names[i] == "**" {
			back, rest = i, name
			i++
			continue
		}
		element, after, _ := strings.Cut(name, "/")
		if i < len(names) && matchName(names[i], element) {
			i++
			name = after
			continue
		}
		if back < 0 {
			return false
		}
		_, rest, _ = strings.Cut(rest, "/")
		i, name = back+1, rest
	}
	for i < len(names) && names[i] == "**" {
		i++
	}
	return i == len(names)
}

// matchName matches one element, in which only "*" is special.
func matchName(p, s string) bool {
	i, j, back, rest := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			back, rest = i, j
			i++
		case i < len(p) && p[i] == s[j]:
			i++
			j++
		case back >= 0:
			rest++
			i, j = back+1, rest
		default:
			return false
		}
	}
	return strings.Trim(p[i:], "*") == ""
}
