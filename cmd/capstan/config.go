package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/viper"
	"gopkg.in/yaml.v3"

	"capstan/internal/capstanfile"
	"capstan/internal/repo"
)

// settingKeys are the keys of config.yaml; but for registries and sections, each
// is one value.
var settingKeys = []string{"accel", "cpus", "disable_kvm", "ec2", "gce", "log_files", "log_size", "memory", "offline", "on", "qemu_path", "registries", "vbox_path", "vmrun_path", "vsphere"}

// oldKeys are old Capstan's own: repo_url still counts, the others mean nothing
// any more and do no harm.
var oldKeys = []string{"qemu_aio_type", "release_tag", "repo_url"}

const (
	configForm = "lines such as memory: 1G, of the keys accel, cpus, disable_kvm, ec2, gce, log_files, log_size, memory, offline, on, qemu_path, registries, vbox_path, vmrun_path and vsphere"

	// maxConfig bounds config.yaml, in bytes.
	maxConfig = 1 << 20
)

// configFile is config.yaml as far as messages need it.
type configFile struct {
	path   string
	data   []byte
	values map[string]*yaml.Node
}

// readConfig reads the configuration file, which need not exist, and checks
// its form and its keys.
func readConfig(path string) (c configFile, err error) {
	c = configFile{path: path, values: map[string]*yaml.Node{}}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	if c.data, err = io.ReadAll(io.LimitReader(f, maxConfig+1)); err != nil {
		return c, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(c.data) > maxConfig {
		return c, &repo.FileError{File: path, Line: 1, Problem: fmt.Sprintf("is larger than %d MiB", maxConfig>>20), Expected: configForm}
	}
	var doc yaml.Node
	err = yaml.NewDecoder(bytes.NewReader(c.data)).Decode(&doc)
	if errors.Is(err, io.EOF) {
		return c, nil
	}
	if err != nil {
		line, problem := repo.YAMLProblem(err)
		return c, &repo.FileError{File: path, Line: line, Problem: problem, Expected: configForm}
	}
	root := doc.Content[0]
	if root.ShortTag() == "!!null" {
		return c, nil
	}
	if root.Kind != yaml.MappingNode {
		return c, &repo.FileError{File: path, Line: root.Line, Problem: "has no keys", Expected: configForm}
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if err := c.key(root.Content[i], root.Content[i+1]); err != nil {
			return c, err
		}
	}
	return c, nil
}

// key notes one key and its value.
func (c configFile) key(k, v *yaml.Node) error {
	wrong := func(n *yaml.Node, problem, expected string) error {
		return &repo.FileError{File: c.path, Line: n.Line, Key: k.Value, Problem: problem, Expected: expected}
	}
	name := strings.ToLower(k.Value) // as viper has it
	switch {
	case c.values[name] != nil:
		return wrong(k, "is given twice", "one line for each key")
	case slices.Contains(oldKeys, name):
	case !slices.Contains(settingKeys, name):
		problem := "is no setting"
		if better := capstanfile.Suggest(name, settingKeys); better != "" {
			problem += fmt.Sprintf(" (did you mean %s?)", better)
		}
		return wrong(k, problem, configForm)
	case name != "registries" && !slices.Contains(sections, name) && (v.Kind != yaml.ScalarNode || v.ShortTag() == "!!null"):
		return wrong(v, "is not one value", name+": "+settingForms[name])
	}
	c.values[name] = v
	return nil
}

// settingForms are values that would do.
var settingForms = map[string]string{
	"accel":       "tcg",
	"cpus":        "2",
	"disable_kvm": "true",
	"log_files":   "3",
	"log_size":    "10M",
	"memory":      "512M",
	"offline":     "true",
	"on":          "qemu",
	"qemu_path":   "/usr/bin/qemu-system-x86_64",
	"vbox_path":   "/usr/bin/VBoxManage",
	"vmrun_path":  "/usr/bin/vmrun",
}

// wrongSetting is a value that a setting cannot have, and where it stands.
func (c configFile) wrongSetting(v *viper.Viper, key, problem string) error {
	variable := "CAPSTAN_" + strings.ToUpper(key)
	if os.Getenv(variable) != "" || c.values[key] == nil {
		return &hinted{fmt.Errorf("%s=%q: %s", variable, v.GetString(key), problem), variable + "=" + settingForms[key]}
	}
	return &repo.FileError{File: c.path, Line: c.values[key].Line, Key: key, Problem: problem, Expected: key + ": " + settingForms[key]}
}
