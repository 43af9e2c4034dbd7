package capstanfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Parse checks the text of a Capstanfile. The name is for messages only. All
// mistakes are reported at once, joined in the order of their lines.
func Parse(name string, data []byte) (*File, error) {
	p := &parser{file: &File{Name: name, Raw: data, lines: map[string]int{}}}
	if root := p.documentOf(data, `keys such as "cmdline: /hello"`); root != nil {
		p.keys(root)
	}
	if err := join(p.mistakes); err != nil {
		return nil, err
	}
	return p.file, nil
}

type parser struct {
	file     *File
	mistakes []*Error
}

// wrong notes a mistake at a node.
func (p *parser) wrong(n *yaml.Node, key, problem, expected, suggestion string) {
	p.mistakes = append(p.mistakes, &Error{
		File: p.file.Name, Line: n.Line, Column: n.Column, Key: key,
		Problem: problem, Expected: expected, Suggestion: suggestion,
	})
}

// fail notes a mistake that concerns the file as a whole.
func (p *parser) fail(line int, problem, expected string) {
	p.mistakes = append(p.mistakes, &Error{
		File: p.file.Name, Line: line, Problem: problem, Expected: expected,
	})
}

// documentOf returns the one mapping that the text must be, or nil. What was
// expected is for messages.
func (p *parser) documentOf(data []byte, expected string) *yaml.Node {
	if len(data) > maxSize {
		p.fail(0, "larger than 1 MiB", "a short text file")
		return nil
	}
	if !utf8.Valid(data) {
		p.fail(1+bytes.Count(data[:firstInvalid(data)], []byte("\n")), "not UTF-8 text", "YAML text")
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		p.fail(1, "the file is empty", expected)
		return nil
	}
	if err == nil {
		if next := dec.Decode(&second); next == nil {
			p.fail(second.Line, "a second document begins", "one document")
			return nil
		} else if !errors.Is(next, io.EOF) {
			err = next
		}
	}
	if err != nil {
		p.syntax(data, err)
		return nil
	}
	root := doc.Content[0]
	if isNull(root) {
		p.fail(1, "the file is empty", expected)
		return nil
	}
	if root.Kind != yaml.MappingNode {
		p.fail(root.Line, "found "+kind(root), expected)
		return nil
	}
	return root
}

// firstInvalid returns the offset of the first byte that is not UTF-8.
func firstInvalid(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(data)
}

// yamlLine finds the line in the YAML library's messages.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// syntax notes an error of the YAML library.
func (p *parser) syntax(data []byte, err error) {
	text := strings.SplitN(err.Error(), "\n", 2)[0]
	m := yamlLine.FindStringSubmatch(text)
	line, _ := strconv.Atoi(m[1])
	problem := "not valid YAML: " + text[len(m[0]):]
	lines := strings.Split(string(data), "\n")
	expected := ""
	for i := max(line-2, 0); i < min(line+1, len(lines)); i++ {
		switch l := lines[i]; {
		case strings.HasPrefix(strings.TrimLeft(l, " "), "\t"):
			line, expected = i+1, "spaces, not a tab, before a key"
		case ampersand.MatchString(l):
			line, expected = i+1, `a value that begins with & in quotes, such as "&"`
		}
	}
	p.fail(max(line, 1), problem, expected)
}

// ampersand matches a line whose value begins with a bare "&", which YAML
// takes for an anchor.
var ampersand = regexp.MustCompile(`^[^#]*:\s+&`)

// scalar returns the text of a node that must be one value.
func (p *parser) scalar(n *yaml.Node, key, expected string) (string, bool) {
	switch {
	case n.Kind == yaml.AliasNode:
		p.wrong(n, key, "aliases (*name) are not supported", expected, "")
	case n.Anchor != "":
		p.wrong(n, key, "a value that begins with & must be in quotes", `"&`+n.Anchor+`"`, "")
	case n.Kind != yaml.ScalarNode:
		p.wrong(n, key, "found "+kind(n), expected, "")
	case isNull(n):
		p.wrong(n, key, "has no value", expected, "")
	case strings.ContainsRune(n.Value, 0):
		p.wrong(n, key, "contains a NUL byte", expected, "")
	default:
		return n.Value, true
	}
	return "", false
}

// filled is scalar for a value that must not be empty.
func (p *parser) filled(n *yaml.Node, key, expected string) (string, bool) {
	s, ok := p.scalar(n, key, expected)
	if ok && strings.TrimSpace(s) == "" {
		p.wrong(n, key, "is empty", expected, "")
		return "", false
	}
	return s, ok
}

// list returns the items of a list; a single value stands for a list of one.
func (p *parser) list(n *yaml.Node, key, expected string) []*yaml.Node {
	switch {
	case isNull(n):
		return nil
	case n.Kind == yaml.ScalarNode && n.Anchor == "":
		return []*yaml.Node{n}
	case n.Kind == yaml.SequenceNode && n.Anchor == "":
		return n.Content
	}
	p.notPlain(n, key, expected)
	return nil
}

// entry is one key of a map and its value.
type entry struct {
	key     string
	keyNode *yaml.Node
	value   *yaml.Node
}

// entries returns a map's entries. Repeated keys are noted as mistakes.
func (p *parser) entries(n *yaml.Node, key, expected string) []entry {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode || n.Anchor != "" {
		p.notPlain(n, key, expected)
		return nil
	}
	prefix := ""
	if key != "" {
		prefix = key + " "
	}
	first := map[string]int{}
	var all []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		name, ok := p.filled(k, key, "a key")
		if !ok {
			continue
		}
		if line, again := first[name]; again {
			p.wrong(k, prefix+oneLine(name), fmt.Sprintf("given twice, first on line %d", line), "", "")
			continue
		}
		first[name] = k.Line
		all = append(all, entry{key: name, keyNode: k, value: v})
	}
	return all
}

// notPlain notes that a node is of the wrong kind, or anchored, or an alias.
func (p *parser) notPlain(n *yaml.Node, key, expected string) {
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		p.wrong(n, key, "anchors and aliases are not supported", expected, "")
		return
	}
	p.wrong(n, key, "found "+kind(n), expected, "")
}

// oneLine makes a key fit for a message.
func oneLine(s string) string {
	q := clip(s)
	if strings.ContainsAny(s, "\n\r\t\"\\") || len(q) != len(s)+2 {
		return q
	}
	return s
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && n.Anchor == ""
}

// kind says what a node is, for messages.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	default:
		return clip(n.Value)
	}
}
