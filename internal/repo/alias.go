package repo

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

//go:embed aliases.yaml
var builtinAliases []byte

// memoryUnits are those that a table writes memory in.
var memoryUnits = map[string]int64{"M": 1 << 20, "G": 1 << 30}

// maxAliases bounds an alias table, in bytes.
const maxAliases = 1 << 20

// Aliases maps names without a tag to what they stand for. The zero value has
// none.
type Aliases struct {
	entries map[string]aliasEntry
}

// aliasEntry is what a name stands for, or why it stands for nothing.
type aliasEntry struct {
	target     string // "" where the image is gone
	memory     int64  // bytes that it wants; 0 where nothing is said
	gone, hint string
}

// GoneError is an image of the past that nothing took the place of.
type GoneError struct {
	Name   string
	Reason string
	hint   string
}

func (e *GoneError) Error() string { return e.Name + " " + e.Reason }

// Hint says what does instead.
func (e *GoneError) Hint() string { return e.hint }

// FileError is a mistake in a file that the user writes.
type FileError struct {
	File     string
	Line     int
	Key      string // may be empty
	Problem  string
	Expected string
}

func (e *FileError) Error() string {
	key := e.Key
	if key != "" {
		key += ": "
	}
	return fmt.Sprintf("%s:%d: %s%s", e.File, e.Line, key, e.Problem)
}

// Hint shows what would have been right.
func (e *FileError) Hint() string { return e.Expected }

// LoadAliases returns the built-in table with the user's own, at path, laid
// over it. There need not be a file at path. Mistakes are *FileError.
func LoadAliases(path string) (Aliases, error) {
	a := Aliases{entries: map[string]aliasEntry{}}
	if err := a.add("aliases.yaml", builtinAliases); err != nil {
		return Aliases{}, fmt.Errorf("the built-in table of aliases: %w", err)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return Aliases{}, fmt.Errorf("reading the aliases: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxAliases+1))
	if err != nil {
		return Aliases{}, fmt.Errorf("reading the aliases: %w", err)
	}
	if len(data) > maxAliases {
		return Aliases{}, &FileError{File: path, Line: 1, Problem: fmt.Sprintf("is larger than %d MiB", maxAliases>>20), Expected: aliasForm}
	}
	return a, a.add(path, data)
}

const (
	aliasForm = "each line is NAME: IMAGE, as in cloudius/cassandra: docker.io/library/cassandra:4.1"
	entryForm = "an image's name; image: with that and memory: with what it wants, such as 2G; or gone: with the reason and try: with what does instead"
)

// add lays the table in data over a.
func (a Aliases) add(file string, data []byte) error {
	var doc yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		line, problem := YAMLProblem(err)
		return &FileError{File: file, Line: line, Problem: problem, Expected: aliasForm}
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return &FileError{File: file, Line: root.Line, Problem: "is no table of names", Expected: aliasForm}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, entry, err := parseAlias(file, root.Content[i], root.Content[i+1])
		if err != nil {
			return err
		}
		if seen[key] {
			return &FileError{File: file, Line: root.Content[i].Line, Key: key, Problem: "is given twice", Expected: "one line for each name"}
		}
		seen[key], a.entries[key] = true, entry
	}
	return nil
}

// YAMLProblem takes the YAML library's message apart.
func YAMLProblem(err error) (line int, problem string) {
	text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), "\n")
	if _, serr := fmt.Sscanf(text, "line %d:", &line); serr == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	return max(line, 1), "is not valid YAML: " + text
}

// parseAlias reads one line of a table.
func parseAlias(file string, k, v *yaml.Node) (string, aliasEntry, error) {
	bad := func(n *yaml.Node, problem, expected string) (string, aliasEntry, error) {
		return "", aliasEntry{}, &FileError{File: file, Line: n.Line, Key: clip(k.Value), Problem: problem, Expected: expected}
	}
	name, err := ParseName(k.Value)
	if err != nil || name != name.untagged() || strings.HasSuffix(k.Value, ":"+DefaultTag) {
		return bad(k, "is no name without a tag", aliasForm)
	}
	if v.Kind == yaml.AliasNode {
		v = v.Alias
	}
	switch v.Kind {
	case yaml.ScalarNode:
		if _, err := ParseName(v.Value); err != nil {
			return bad(v, err.Error(), aliasForm)
		}
		return name.Repository(), aliasEntry{target: v.Value}, nil
	case yaml.MappingNode:
		var e aliasEntry
		for i := 0; i+1 < len(v.Content); i += 2 {
			switch word, text := v.Content[i], v.Content[i+1].Value; word.Value {
			case "image":
				if _, err := ParseName(text); err != nil {
					return bad(v.Content[i+1], err.Error(), entryForm)
				}
				e.target = text
			case "memory":
				var unit string
				if n, _ := fmt.Sscanf(text, "%d%s", &e.memory, &unit); n != 2 || e.memory < 1 || e.memory > 1<<20 || memoryUnits[unit] == 0 {
					return bad(v.Content[i+1], fmt.Sprintf("memory: %q is no size", clip(text)), "such as 512M or 2G")
				}
				e.memory *= memoryUnits[unit]
			case "gone":
				e.gone = text
			case "try":
				e.hint = text
			default:
				return bad(word, fmt.Sprintf("%q is unknown", clip(word.Value)), entryForm)
			}
		}
		if (e.gone != "") != (e.target != "") && (e.memory == 0 || e.target != "") {
			return name.Repository(), e, nil
		}
	}
	return bad(v, "has neither an image nor a reason", entryForm)
}

// Lookup returns what n stands for. The tag or digest of n counts where it has
// one that is not the default; else that of the table. ok is false for a name
// that the table does not have; of an image that is gone the error is a
// *GoneError.
func (a Aliases) Lookup(n Name) (target Name, ok bool, err error) {
	e, ok := a.entries[n.Repository()]
	if !ok {
		return Name{}, false, nil
	}
	if e.gone != "" {
		return Name{}, true, &GoneError{Name: n.Repository(), Reason: e.gone, hint: e.hint}
	}
	if target, err = ParseName(e.target); err != nil {
		return Name{}, true, err
	}
	if n != n.untagged() {
		target.Tag, target.Digest = n.Tag, n.Digest
	}
	return target, true, nil
}

// Memory returns how much memory, in bytes, the table says that an image wants,
// by its own name or by one that stands for it; 0 where it says nothing.
func (a Aliases) Memory(n Name) int64 {
	if e, ok := a.entries[n.Repository()]; ok {
		return e.memory
	}
	var most int64
	for _, e := range a.entries {
		if target, err := ParseName(e.target); err == nil && target.Repository() == n.Repository() {
			most = max(most, e.memory)
		}
	}
	return most
}

// Alias is one line of a table.
type Alias struct {
	Name   string
	Target string // what it stands for, "" if that is gone
	Gone   string // why it is gone
}

// List returns the table's lines, sorted by name.
func (a Aliases) List() []Alias {
	var list []Alias
	for _, name := range slices.Sorted(maps.Keys(a.entries)) {
		e := a.entries[name]
		list = append(list, Alias{Name: name, Target: e.target, Gone: e.gone})
	}
	return list
}
