package capstanfile

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	// maxCPUs and maxMemory are sanity bounds, far above any hypervisor's.
	maxCPUs   = 4096
	maxMemory = 1 << 46

	memoryExpected = "a size with its unit, such as 512M or 1G"

	maxPath    = 4096 // PATH_MAX of Linux
	maxElement = 255  // NAME_MAX of Linux
)

var memoryForm = regexp.MustCompile(`^(\d{1,12})\s*([A-Za-z]*)$`)

// ParseMemory reads a memory size such as "512M" or "1G" and returns bytes.
// The unit is mandatory, as it was in old Capstan: m, mb, mib, g, gb, gib, t, tb
// or tib in either case, each a power of two.
func ParseMemory(s string) (int64, error) {
	m := memoryForm.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("found %s", clip(s))
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("found %s", clip(s))
	}
	shift := 0
	switch strings.ToLower(m[2]) {
	case "":
		return 0, fmt.Errorf("%s has no unit", clip(s))
	case "m", "mb", "mib":
		shift = 20
	case "g", "gb", "gib":
		shift = 30
	case "t", "tb", "tib":
		shift = 40
	default:
		return 0, fmt.Errorf("%s has the unknown unit %q", clip(s), m[2])
	}
	if n < 1 || n > maxMemory>>shift {
		return 0, fmt.Errorf("%s is out of range", clip(s))
	}
	return n << shift, nil
}

// guestPath checks an absolute path in the image and returns it clean. The
// key is for messages.
func (p *parser) guestPath(n *yaml.Node, key, s string) (string, bool) {
	const expected = "an absolute guest path"
	if !strings.HasPrefix(s, "/") {
		p.wrong(n, key, clip(s)+" is not absolute", expected, "/"+strings.TrimPrefix(s, "./"))
		return "", false
	}
	if strings.ContainsAny(s, "\n\r") {
		p.wrong(n, key, clip(s)+" has a line break in it", expected, "")
		return "", false
	}
	if len(s) > maxPath {
		p.wrong(n, key, clip(s)+" is too long", "at most 4096 bytes", "")
		return "", false
	}
	for element := range strings.SplitSeq(s, "/") {
		switch {
		case element == "..":
			p.wrong(n, key, `".." is not allowed in a guest path`, expected, "")
			return "", false
		case len(element) > maxElement:
			p.wrong(n, key, clip(element)+" is too long a name", "at most 255 bytes", "")
			return "", false
		case strings.HasPrefix(element, ".wh."):
			p.wrong(n, key, `names that begin with ".wh." mean deletions in a layer`, expected, "")
			return "", false
		}
	}
	return path.Clean(s), true
}

// drive matches the beginning of an absolute Windows path.
var drive = regexp.MustCompile(`^[A-Za-z]:`)

// hostPath checks a path below the build directory and returns it clean.
func (p *parser) hostPath(n *yaml.Node, key, s, expected string) (string, bool) {
	// A backslash separates names on Windows only, but an escape that one
	// host would refuse is refused on all of them.
	slashed := strings.ReplaceAll(s, `\`, "/")
	switch {
	case strings.HasPrefix(slashed, "/") || drive.MatchString(s):
		p.wrong(n, key, clip(s)+" is an absolute path", expected, "")
	case strings.HasPrefix(s, "~"):
		p.wrong(n, key, clip(s)+`: "~" is not expanded`, expected, "")
	case escapes(slashed):
		p.wrong(n, key, clip(s)+" leads out of the Capstanfile's directory", expected, "")
	case strings.ContainsAny(s, "\n\r"):
		p.wrong(n, key, clip(s)+" has a line break in it", expected, "")
	case len(s) > maxPath:
		p.wrong(n, key, clip(s)+" is too long", "at most 4096 bytes", "")
	default:
		return path.Clean(s), true
	}
	return "", false
}

// escapes reports whether a relative path steps above where it starts, or
// steps back up after a wildcard, where it cannot be told.
func escapes(s string) bool {
	depth, wild := 0, false
	for element := range strings.SplitSeq(s, "/") {
		switch element {
		case "", ".":
		case "..":
			depth--
			if depth < 0 || wild {
				return true
			}
		default:
			depth++
			wild = wild || strings.ContainsAny(element, "*?[{")
		}
	}
	return false
}
