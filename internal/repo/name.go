package repo

import (
	"fmt"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// DefaultTag is the tag of a name that has neither tag nor digest.
const DefaultTag = "latest"

// DockerHub is the registry whose images without a namespace are those of its
// namespace library. It has other names, which ParseName turns into this one.
const (
	DockerHub      = "docker.io"
	hubNamespace   = "library"
	hubIndex       = "index.docker.io"
	hubRegistryAPI = "registry-1.docker.io"
)

// maxRepository bounds registry, namespace and name together, in bytes, as
// registries do.
const maxRepository = 255

var (
	// componentRE and tagRE are the grammar of the OCI distribution
	// specification v1.1, "Pulling manifests"; hostRE is a DNS name, an IPv4
	// address or a bracketed IPv6 address, with an optional port.
	componentRE = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)
	tagRE       = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	hostRE      = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$`)
)

// Name is an image's name, [registry/][namespace/]name[:tag][@digest]. Short
// names stay short: which registry "redis" comes from is decided where it is
// looked for. The zero Name means "no name".
type Name struct {
	Registry  string // host[:port], "" in a short name
	Namespace string // may hold several components: "team/project"
	Name      string
	Tag       string  // DefaultTag where neither a tag nor a digest was given
	Digest    v1.Hash // zero where none was given
}

// NameError says what is wrong with a name.
type NameError struct {
	Name   string
	Reason string
	hint   string
}

func (e *NameError) Error() string { return fmt.Sprintf("image name %q: %s", e.Name, e.Reason) }

// Hint shows a name that would do.
func (e *NameError) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	return "a name is [registry/]namespace/name[:tag], as in redis, cloudius/cassandra:4.1 or localhost:5000/team/app"
}

// ParseName reads a name. Its errors are *NameError.
func ParseName(s string) (Name, error) {
	n, reason, hint := parseName(s)
	if reason != "" {
		return Name{}, &NameError{Name: clip(s), Reason: reason, hint: hint}
	}
	return n, nil
}

// parseName returns what is wrong as a reason and perhaps a hint.
func parseName(s string) (n Name, reason, hint string) {
	if s == "" {
		return n, "is empty", ""
	}
	if strings.Contains(s, "://") {
		_, rest, _ := strings.Cut(s, "://")
		return n, "is a URL", fmt.Sprintf("leave out the scheme: %s", clip(rest))
	}
	rest, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		h, err := v1.NewHash(digest)
		if err != nil || h.Algorithm != "sha256" {
			return n, fmt.Sprintf("%q is not a digest", clip(digest)), "a digest is sha256: and 64 hexadecimal digits"
		}
		n.Digest = h
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		n.Tag, rest = rest[i+1:], rest[:i]
		if !tagRE.MatchString(n.Tag) {
			return n, fmt.Sprintf("%q is not a tag", clip(n.Tag)), "a tag is up to 128 letters, digits, '.', '_' and '-'"
		}
	} else if !hasDigest {
		n.Tag = DefaultTag
	}
	parts := strings.Split(rest, "/")
	if len(parts) > 1 && isHost(parts[0]) {
		n.Registry, parts = strings.ToLower(parts[0]), parts[1:]
		if !hostRE.MatchString(n.Registry) {
			return n, fmt.Sprintf("%q is not a registry's host[:port]", n.Registry), ""
		}
	}
	for _, p := range parts {
		if reason, hint := badComponent(s, rest, p); reason != "" {
			return n, reason, hint
		}
	}
	last := len(parts) - 1
	n.Namespace, n.Name = strings.Join(parts[:last], "/"), parts[last]
	if n = n.canonical(); len(n.Repository()) > maxRepository {
		return n, fmt.Sprintf("is longer than %d characters", maxRepository), ""
	}
	return n, "", ""
}

// canonical writes a name at Docker Hub in the one way that the store has it.
func (n Name) canonical() Name {
	if n.Registry == hubIndex || n.Registry == hubRegistryAPI {
		n.Registry = DockerHub
	}
	if n.Registry == DockerHub && n.Namespace == "" {
		n.Namespace = hubNamespace
	}
	return n
}

// untagged returns the name with the default tag in the place of its own and
// of its digest.
func (n Name) untagged() Name {
	n.Tag, n.Digest = DefaultTag, v1.Hash{}
	return n
}

// At returns a short name as the registry has it; of "redis" at docker.io that
// is docker.io/library/redis. A name with a registry stays as it is.
func (n Name) At(registry string) Name {
	if n.Registry == "" {
		n.Registry = registry
	}
	return n.canonical()
}

// isHost tells a registry from a namespace, as container engines do: by a
// dot, a port, or being localhost.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:[") || strings.EqualFold(s, "localhost")
}

// ParseHost reads a registry's host[:port], and returns it as names have it.
// Its errors are *NameError.
func ParseHost(s string) (string, error) {
	host := strings.ToLower(s)
	if !isHost(host) || !hostRE.MatchString(host) {
		return "", &NameError{Name: clip(s), Reason: "is not a registry's host[:port]", hint: "a registry is a host, as in docker.io, registry.example.org or localhost:5000"}
	}
	return Name{Registry: host}.canonical().Registry, nil
}

// badComponent says what is wrong with one component of the repository in
// name, or "".
func badComponent(name, repository, p string) (reason, hint string) {
	if componentRE.MatchString(p) {
		return "", ""
	}
	if p == "" {
		return "has an empty component", ""
	}
	if lower := strings.ToLower(p); componentRE.MatchString(lower) {
		low := strings.Replace(name, repository, strings.ToLower(repository), 1)
		return fmt.Sprintf("%q has upper-case letters", clip(p)), "names are lower case: " + clip(low)
	}
	return fmt.Sprintf("%q is not allowed in a name", clip(p)),
		"components are lower-case letters and digits, with single '.', '_', '__' or '-' between them"
}

// clip shortens s so that an error stays one line.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// Repository returns the name without tag and digest.
func (n Name) Repository() string {
	s := n.Name
	if n.Namespace != "" {
		s = n.Namespace + "/" + s
	}
	if n.Registry != "" {
		s = n.Registry + "/" + s
	}
	return s
}

// String returns the whole name, in a form that ParseName reads back.
func (n Name) String() string {
	if n.IsZero() {
		return ""
	}
	s := n.Repository()
	if n.Tag != "" {
		s += ":" + n.Tag
	}
	if n.Digest != (v1.Hash{}) {
		s += "@" + n.Digest.String()
	}
	return s
}

// IsZero reports whether n is no name at all.
func (n Name) IsZero() bool { return n == Name{} }

// key is what the name is stored under: a tag's digest may change, so a tag
// alone identifies where there is one.
func (n Name) key() string {
	if n.Tag != "" {
		n.Digest = v1.Hash{}
	}
	return n.String()
}

// MarshalText and UnmarshalText make a name a string in JSON and YAML.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText is ParseName, with "" for the zero Name.
func (n *Name) UnmarshalText(b []byte) (err error) {
	*n = Name{}
	if len(b) > 0 {
		*n, err = ParseName(string(b))
	}
	return err
}
