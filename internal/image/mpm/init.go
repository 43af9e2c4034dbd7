package mpm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"capstan/internal/capstanfile"
)

// Init makes a package of a directory: it writes meta/package.yaml and, for a
// runtime, a meta/run.yaml to be filled in. It replaces neither.
func Init(dir string, pkg capstanfile.Package, runtime string) error {
	doc := struct {
		Name     string   `yaml:"name"`
		Title    string   `yaml:"title"`
		Author   string   `yaml:"author"`
		Version  string   `yaml:"version,omitempty"`
		Require  []string `yaml:"require,omitempty"`
		Created  string   `yaml:"created"`
		Platform string   `yaml:"platform,omitempty"`
	}{pkg.Name, pkg.Title, pkg.Author, pkg.Version, pkg.Require, pkg.Created.Format(time.RFC3339), pkg.Platform}
	text, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	if _, err := capstanfile.ParsePackage(capstanfile.PackageName, text, capstanfile.Own); err != nil {
		return err
	}
	files := map[string][]byte{capstanfile.PackageName: text}
	if runtime != "" {
		files[capstanfile.RunName] = []byte(runTemplates[runtime])
	}
	for name := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if _, err := os.Lstat(file); err == nil {
			return &Error{file + " is there already", "edit it, or remove it first"}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, metaDir), 0o777); err != nil {
		return fmt.Errorf("making the package: %w", err)
	}
	for name, content := range files {
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), content); err != nil {
			return fmt.Errorf("making the package: %w", err)
		}
	}
	return nil
}

// runTemplates are meta/run.yaml for each runtime.
var runTemplates = map[string]string{
	"native": `runtime: native
config_set:
  default:
    # The command that OSv runs; / is this directory.
    bootcmd: /hello.so
    # env: {NAME: value}
    # base: "PACKAGE:CONFIG_SET"    # instead of bootcmd
config_set_default: default
`,
	"node": `runtime: node
config_set:
  default:
    # The script; / is this directory.
    main: /server.js
    # args: [--port, "8000"]
    # node_args: [--trace-warnings]
    # shell: true                   # instead of main and args
    # env: {NAME: value}
    # base: "node-4.4.5:node"
config_set_default: default
`,
	"java": `runtime: java
config_set:
  default:
    # The class, or a .jar; / is this directory.
    main: /app.jar
    # args: [--verbose]
    # classpath: [/, /lib/other.jar]
    # jvm_args: [-Djava.net.preferIPv4Stack=true]
    # xms: 128m
    # xmx: 512m
    # env: {NAME: value}
    # base: "openjdk8-zulu-compact1:java"
config_set_default: default
`,
	"python": `runtime: python
config_set:
  default:
    # The script; / is this directory.
    main: /server.py
    # args: [--port, "8000"]
    # python_args: [-O]
    # shell: true                   # instead of main and args
    # env: {NAME: value}
    # base: "python-2.7:python"
config_set_default: default
`,
}
