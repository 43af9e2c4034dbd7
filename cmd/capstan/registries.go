package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/viper"
	"gopkg.in/yaml.v3"

	"capstan/internal/repo"
)

const (
	registryForm   = "a host such as docker.io, or host: with mirrors:, insecure:, ca: or full_names_only:"
	registriesForm = "a list, as in registries: [registry.example.org, docker.io]"
	mirrorForm     = "a list of host[:port][/path], as in mirrors: [mirror.example.org:5000]"
)

// registriesOf returns the registries of the configuration file in data, in
// the order of CAPSTAN_REGISTRIES where the environment has that: hosts, with
// commas or blanks between them.
func registriesOf(v *viper.Viper, file string, data []byte) (repo.Registries, error) {
	regs, err := parseRegistries(file, data)
	if err != nil {
		return nil, err
	}
	if regs == nil {
		regs = repo.Registries{{Host: repo.DockerHub}}
	}
	order, ok := v.Get("registries").(string)
	if !ok {
		return regs, nil
	}
	var first repo.Registries
	for _, word := range strings.FieldsFunc(order, func(r rune) bool { return r == ',' || r == ' ' }) {
		host, err := repo.ParseHost(word)
		if err != nil {
			return nil, fmt.Errorf("CAPSTAN_REGISTRIES: %w", err)
		}
		reg := regs.Get(host)
		reg.FullNamesOnly = false
		first = append(first, reg)
	}
	for _, reg := range regs {
		if !first.Has(reg.Host) {
			reg.FullNamesOnly = true
			first = append(first, reg)
		}
	}
	return first, nil
}

// parseRegistries reads the key registries of the configuration file in data,
// which viper has found to be YAML. Paths in it are relative to the file. It
// returns nil where the key is absent.
func parseRegistries(file string, data []byte) (repo.Registries, error) {
	var doc struct {
		Registries yaml.Node `yaml:"registries"`
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	p := registryParser{file: file}
	list := &doc.Registries
	if list.IsZero() || list.ShortTag() == "!!null" {
		return nil, nil
	}
	if list.Kind != yaml.SequenceNode {
		return nil, p.wrong(list, "registries", "is no list", registriesForm)
	}
	regs := repo.Registries{}
	for _, n := range list.Content {
		reg, err := p.registry(n)
		if err != nil {
			return nil, err
		}
		if regs.Has(reg.Host) {
			return nil, p.wrong(n, "registries", reg.Host+" is given twice", "one entry for each registry")
		}
		regs = append(regs, reg)
	}
	return regs, nil
}

type registryParser struct{ file string }

func (p registryParser) wrong(n *yaml.Node, key, problem, expected string) error {
	return &repo.FileError{File: p.file, Line: n.Line, Key: key, Problem: problem, Expected: expected}
}

// registry reads one entry: a host, or a map.
func (p registryParser) registry(n *yaml.Node) (repo.Registry, error) {
	if n.Kind == yaml.ScalarNode {
		host, err := p.host(n)
		return repo.Registry{Host: host}, err
	}
	var reg repo.Registry
	if n.Kind != yaml.MappingNode {
		return reg, p.wrong(n, "registries", "an entry is no registry", registryForm)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := p.key(&reg, n.Content[i], n.Content[i+1]); err != nil {
			return reg, err
		}
	}
	if reg.Host == "" {
		return reg, p.wrong(n, "registries", "an entry has no host", registryForm)
	}
	if reg.Insecure && reg.CAFile != "" {
		return reg, p.wrong(n, "registries", reg.Host+" has both insecure and ca", "ca alone: plain HTTP has no certificates")
	}
	return reg, nil
}

func (p registryParser) key(reg *repo.Registry, k, v *yaml.Node) (err error) {
	key := "registries " + k.Value
	switch k.Value {
	case "host":
		reg.Host, err = p.host(v)
	case "mirrors":
		if v.Kind != yaml.SequenceNode {
			return p.wrong(v, key, "is no list", mirrorForm)
		}
		for _, m := range v.Content {
			mirror := strings.TrimSuffix(m.Value, "/")
			if n, err := repo.ParseName(mirror + "/x"); err != nil || n.Registry == "" {
				return p.wrong(m, key, fmt.Sprintf("%q is no mirror", m.Value), mirrorForm)
			}
			reg.Mirrors = append(reg.Mirrors, mirror)
		}
	case "insecure":
		reg.Insecure, err = p.boolean(key, v)
	case "full_names_only":
		reg.FullNamesOnly, err = p.boolean(key, v)
	case "ca":
		if v.Kind != yaml.ScalarNode || v.Value == "" {
			return p.wrong(v, key, "is no file's name", "the path of a file of certificates in PEM")
		}
		reg.CAFile = v.Value
		if !filepath.IsAbs(reg.CAFile) {
			reg.CAFile = filepath.Join(filepath.Dir(p.file), reg.CAFile)
		}
	default:
		return p.wrong(k, "registries", fmt.Sprintf("the key %q is unknown", k.Value), registryForm)
	}
	return err
}

func (p registryParser) host(n *yaml.Node) (string, error) {
	host, err := repo.ParseHost(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return "", p.wrong(n, "registries", fmt.Sprintf("%q is no registry", n.Value), registryForm)
	}
	return host, nil
}

func (p registryParser) boolean(key string, n *yaml.Node) (b bool, err error) {
	if n.Decode(&b) != nil {
		return false, p.wrong(n, key, fmt.Sprintf("%q is neither true nor false", n.Value), key+": true")
	}
	return b, nil
}
