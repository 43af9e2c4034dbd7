package capstanfile

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParsePackage(t *testing.T) {
	const text = `
name: com.example.app
title: DEMO App
author: lemmy (lemmy@email.com)
version: 1.10
require:
    - osv.cli
    - openjdk8-zulu-compact1
binary:
  app: /usr/bin/app.so
created: 2017-11-16 07:46
platform: Ubuntu-14.04
`
	got, err := ParsePackage(PackageName, []byte(text), Own)
	if err != nil {
		t.Fatal(err)
	}
	want := &Package{
		Name: "com.example.app", Title: "DEMO App", Author: "lemmy (lemmy@email.com)", Version: "1.10",
		Require: []string{"osv.cli", "openjdk8-zulu-compact1"}, Created: time.Date(2017, 11, 16, 7, 46, 0, 0, time.UTC), Platform: "Ubuntu-14.04",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if p, err := ParsePackage("x", []byte("name: a\ntitle: b\nauthor: c\ncreated: '?'\nhomepage: d\n"), Foreign); err != nil || !p.Created.IsZero() {
		t.Errorf("of others: %+v, %v", p, err)
	}
}

func TestParsePackageMistakes(t *testing.T) {
	const whole = "name: a\ntitle: b\nauthor: c\n"
	for text, want := range map[string]string{
		"":                             `meta/package.yaml:1: the file is empty (expected keys such as "name: com.example.app")`,
		"illegal package":              `meta/package.yaml:1: found "illegal package" (expected keys such as "name: com.example.app")`,
		"name: a\ntitle: b\n":          "meta/package.yaml:1: author is missing (expected name, title and author, at least)",
		"name: ../a\n":                 `meta/package.yaml:1: name: "../a" is no name of a package (expected a name such as osv.cli or com.example.app)`,
		whole + "require: [b, /c]\n":   `meta/package.yaml:4: require: "/c" is no name of a package (expected a name such as osv.cli or com.example.app)`,
		whole + "requires: [b]\n":      `meta/package.yaml:4: requires: unknown key (did you mean "require"?)`,
		whole + "name: b\n":            "meta/package.yaml:4: name: given twice, first on line 1",
		whole + "version: [1]\n":       "meta/package.yaml:4: version: found a list (expected a text)",
		whole + "version: *a\n":        "meta/package.yaml:1: not valid YAML: unknown anchor 'a' referenced",
		"name: a\n\ttitle: b\n":        "meta/package.yaml:2: not valid YAML: found a tab character that violates indentation (expected spaces, not a tab, before a key)",
		strings.Repeat("#", maxSize+1): "meta/package.yaml: larger than 1 MiB (expected a short text file)",
	} {
		_, err := ParsePackage(PackageName, []byte(text), Own)
		var mistake *Error
		if !errors.As(err, &mistake) || mistake.Hint() != "capstan package --help explains the keys" {
			t.Errorf("%.40q: %v", text, err)
		} else if got := err.Error(); got != want {
			t.Errorf("%.40q:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func TestParseRun(t *testing.T) {
	const text = `
runtime: node
config_set:
  two:
    shell: true
  one:
    main: /server.js
    args: [localhost, 8000]
    node_args: --version
    env:
      PORT: 8000
      EMPTY: ""
      NOTHING:
    base: "node-6:node"
config_set_default: one, two
`
	got, err := ParseRun(RunName, []byte(text), Own)
	if err != nil {
		t.Fatal(err)
	}
	want := &Run{Runtime: "node", Default: []string{"one", "two"}, Sets: []ConfigSet{
		{Name: "one", Main: "/server.js", Args: []string{"localhost", "8000"}, RuntimeArgs: []string{"--version"}, Env: map[string]string{"PORT": "8000", "EMPTY": "", "NOTHING": ""}, Base: "node-6:node"},
		{Name: "two", Shell: true},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	one, err := ParseRun(RunName, []byte("runtime: java\nconfig_set: {only: {main: A, xms: 1m, xmx: 2m, classpath: [/a], jvm_args: [-v]}}\n"), Own)
	if err != nil || len(one.Default) != 1 || one.Default[0] != "only" {
		t.Errorf("the only set is not the default: %+v, %v", one, err)
	}
}

func TestParseRunMistakes(t *testing.T) {
	set := func(runtime, set string) string { return "runtime: " + runtime + "\nconfig_set:\n  x: {" + set + "}\n" }
	for text, want := range map[string]string{
		"config_set: {x: {bootcmd: /a}}\n":                      "meta/run.yaml:1: runtime is missing (expected one of java, native, node, python)",
		"runtime: nod\n":                                        `meta/run.yaml:1: runtime: found "nod" (expected one of java, native, node, python; did you mean "node"?)`,
		"runtime: node\n":                                       "meta/run.yaml:1: config_set is missing (expected at least one set with a name)",
		"runtime: node\nconfig_set: {}\n":                       "meta/run.yaml:2: config_set is empty (expected at least one set with a name)",
		"runtime: node\nconfig_set: a\n":                        `meta/run.yaml:2: config_set: found "a" (expected named sets)`,
		"runtime: native\nconfigset: a\n":                       `meta/run.yaml:2: configset: unknown key (did you mean "config_set"?)`,
		"runtime: native\nconfig_set:\n  a/b: {}\n":             `meta/run.yaml:3: config_set a/b: is no name for a set: it becomes that of the file /run/NAME (expected letters, digits, dots and hyphens)`,
		set("native", ""):                                       "meta/run.yaml:3: config_set x: bootcmd is missing",
		set("node", ""):                                         "meta/run.yaml:3: config_set x: main is missing",
		set("native", "main: a"):                                `meta/run.yaml:3: config_set x main: unknown key (expected one of base, bootcmd, env)`,
		set("python", "shell: maybe"):                           `meta/run.yaml:3: config_set x shell: found "maybe" (expected true or false)`,
		set("python", "shell: true, main: a"):                   "meta/run.yaml:3: config_set x: shell is the interpreter alone, and does not take main and args",
		set("node", "shell: true, env: {MAIN: a}"):              "meta/run.yaml:3: config_set x: shell is the interpreter alone, and does not take MAIN and ARGS in env",
		set("node", "base: a"):                                  `meta/run.yaml:3: config_set x base: found "a" (expected a set of a package: "PACKAGE:SET")`,
		set("node", "base: 'a:b', main: c"):                     "meta/run.yaml:3: config_set x: base brings a command of its own, and does not take main, args, node_args, shell",
		set("native", "base: 'a:b', bootcmd: c"):                "meta/run.yaml:3: config_set x: base brings a command of its own, and does not take bootcmd",
		set("native", "bootcmd: a, env: {A b: c}"):              `meta/run.yaml:3: config_set x env A b: is no name of a variable (expected letters, digits and underscores)`,
		set("native", "bootcmd: a") + "config_set_default: y\n": `meta/run.yaml:1: config_set_default: there is no config_set "y" (expected one of those in config_set)`,
	} {
		_, err := ParseRun(RunName, []byte(text), Own)
		if err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func FuzzParsePackage(f *testing.F) {
	f.Add("name: a\ntitle: b\nauthor: c\nrequire: [d]\n")
	f.Add("runtime: native\nconfig_set: {x: {bootcmd: /a, env: {A: b}}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, from := range []Source{Own, Foreign} {
			if p, err := ParsePackage(PackageName, []byte(text), from); err == nil && (!ValidPackage(p.Name) || p.Title == "" || p.Author == "") {
				t.Errorf("taken: %+v", p)
			}
			run, err := ParseRun(RunName, []byte(text), from)
			if err != nil {
				continue
			}
			if len(run.Sets) == 0 {
				t.Error("a run.yaml without sets was taken")
			}
			for _, s := range run.Sets {
				if !ValidSet(s.Name) || strings.ContainsAny(s.Name, "/\\") {
					t.Errorf("taken: %+v", s)
				}
			}
		}
	})
}
