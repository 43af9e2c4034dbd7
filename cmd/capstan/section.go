package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"capstan/internal/capstanfile"
	"capstan/internal/repo"
)

// sections are the keys of config.yaml that have keys of their own.
var sections = []string{"ec2", "gce", "vsphere"}

// sectionKey is a key of a section, and where its value goes.
type sectionKey struct {
	key  string
	to   *string
	list *[]string // in the place of to, where it takes several values
	// check tells what is wrong with a value; nil takes any.
	check func(value string) error
	// variables count before the key. It is for who reads those.
	variables []string
}

// section reads a section. form is one that would do; secrets are words that no
// key is, and why.
func (c configFile) section(name, form string, known []sectionKey, secrets map[string]string) error {
	section := c.values[name]
	if section == nil {
		return nil
	}
	wrong := func(n *yaml.Node, problem string) error {
		return &repo.FileError{File: c.path, Line: n.Line, Key: name, Problem: problem, Expected: form}
	}
	if section.Kind != yaml.MappingNode {
		return wrong(section, "is no section with keys")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(section.Content); i += 2 {
		k, v := section.Content[i], section.Content[i+1]
		n := slices.IndexFunc(known, func(s sectionKey) bool { return s.key == k.Value })
		switch {
		case secrets[k.Value] != "":
			return wrong(k, secrets[k.Value])
		case n < 0:
			return wrong(k, "has no key "+k.Value+suggestion(k.Value, known))
		case seen[k.Value]:
			return wrong(k, "has the key "+k.Value+" twice")
		}
		seen[k.Value] = true
		if wrongAt, problem := known[n].set(v); problem != "" {
			return wrong(wrongAt, k.Value+": "+problem)
		}
	}
	return nil
}

// set takes a value, or returns where it is wrong, and why.
func (s sectionKey) set(v *yaml.Node) (at *yaml.Node, problem string) {
	values := []*yaml.Node{v}
	if s.list != nil && v.Kind == yaml.SequenceNode {
		values = v.Content
	}
	var list []string
	for _, one := range values {
		switch {
		case one.Kind == yaml.ScalarNode && one.ShortTag() != "!!null":
		case s.list != nil:
			return one, "it is no value or list of values"
		default:
			return one, "it is not one value"
		}
		if s.check != nil {
			if err := s.check(one.Value); err != nil {
				return one, err.Error()
			}
		}
		list = append(list, one.Value)
	}
	switch set := func(name string) bool { return os.Getenv(name) != "" }; {
	case slices.ContainsFunc(s.variables, set):
	case s.list != nil:
		*s.list = list
	default:
		*s.to = list[0]
	}
	return nil, ""
}

// suggestion is which key somebody may have meant.
func suggestion(word string, known []sectionKey) string {
	var keys []string
	for _, s := range known {
		keys = append(keys, s.key)
	}
	if better := capstanfile.Suggest(word, keys); better != "" {
		return fmt.Sprintf(" (did you mean %s?)", better)
	}
	return " (there are " + strings.Join(keys, ", ") + ")"
}
