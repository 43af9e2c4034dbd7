package capstanfile

import (
	"regexp"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Files that describe a package of old Capstan's, relative to its directory.
const (
	PackageName = "meta/package.yaml"
	RunName     = "meta/run.yaml"
)

// Package is what a meta/package.yaml says.
type Package struct {
	Name, Title, Author string
	Version             string
	Require             []string // packages that it needs, in the order of the file
	Created             time.Time
	Platform            string
}

// Source says where a file comes from. In the user's own, keys that are not
// known are mistakes; old Capstan ignored them, and so are those ignored that
// others made.
type Source int

const (
	Own Source = iota
	Foreign
)

// packageName is what packages may be called: old Capstan made files of their
// names.
var packageName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,199}$`)

const packageExpected = "a name such as osv.cli or com.example.app"

// ValidPackage reports whether a package may be called so.
func ValidPackage(name string) bool { return packageName.MatchString(name) }

// ValidSet reports whether a config_set may be called so: its script's path is
// one word of OSv's command line.
func ValidSet(name string) bool { return ValidPackage(name) && !strings.Contains(name, " ") }

// ParsePackage checks the text of a meta/package.yaml. The name is for messages.
func ParsePackage(name string, data []byte, from Source) (*Package, error) {
	p := &parser{file: &File{Name: name}}
	pkg := &Package{}
	if root := p.documentOf(data, `keys such as "name: com.example.app"`); root != nil {
		p.packageKeys(root, pkg, from)
	}
	if err := join(p.mistakes); err != nil {
		return nil, err
	}
	return pkg, nil
}

func (p *parser) packageKeys(root *yaml.Node, pkg *Package, from Source) {
	text := func(to *string) func(*yaml.Node, string) {
		return func(n *yaml.Node, key string) { *to, _ = p.filled(n, key, "a text") }
	}
	p.mapping(root, "", from, map[string]func(*yaml.Node, string){
		"name":  func(n *yaml.Node, key string) { pkg.Name = p.packageName(n, key) },
		"title": text(&pkg.Title), "author": text(&pkg.Author), "version": text(&pkg.Version), "platform": text(&pkg.Platform),
		"require": func(n *yaml.Node, key string) {
			for _, item := range p.list(n, key, packageExpected) {
				pkg.Require = append(pkg.Require, p.packageName(item, key))
			}
		},
		"created": func(n *yaml.Node, key string) {
			if s, ok := p.filled(n, key, "a time"); ok {
				pkg.Created = oldTime(s)
			}
		},
		"binary": func(*yaml.Node, string) {}, // which nobody ever read
	})
	for _, must := range []struct{ key, value string }{{"name", pkg.Name}, {"title", pkg.Title}, {"author", pkg.Author}} {
		if must.value == "" && len(p.mistakes) == 0 {
			p.fail(root.Line, must.key+" is missing", "name, title and author, at least")
		}
	}
}

func (p *parser) packageName(n *yaml.Node, key string) string {
	s, ok := p.filled(n, key, packageExpected)
	if ok && !ValidPackage(s) {
		p.wrong(n, key, clip(s)+" is no name of a package", packageExpected, "")
	}
	return s
}

// oldTime reads the times that old Capstan wrote. Of others it said "?".
func oldTime(s string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return time.Time{}
}

// mapping reads the keys of a map.
func (p *parser) mapping(n *yaml.Node, key string, from Source, known map[string]func(n *yaml.Node, key string)) {
	names := sortedKeys(known)
	for _, e := range p.entries(n, key, "keys and values") {
		read, ok := known[e.key]
		switch {
		case ok:
			read(e.value, strings.TrimSpace(key+" "+e.key))
		case from == Own:
			better, expected := Suggest(e.key, names), ""
			if better == "" {
				expected = "one of " + strings.Join(names, ", ")
			}
			p.wrong(e.keyNode, strings.TrimSpace(key+" "+oneLine(e.key)), "unknown key", expected, better)
		}
	}
}
