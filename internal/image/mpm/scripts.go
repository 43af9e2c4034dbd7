package mpm

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"capstan/internal/capstanfile"
	"capstan/internal/image/disk"
	"capstan/internal/image/rofs"
)

// ScriptPath is where the script is that runs a set.
func ScriptPath(set string) string { return path.Join("run", set) }

// defaultBase is the set whose command a runtime's sets run, where they do not
// say another.
func defaultBase(runtime string) string {
	return map[string]string{"node": "node-4.4.5:node", "java": "openjdk8-zulu-compact1:java", "python": "python-2.7:python"}[runtime]
}

// RuntimePackage is the package that a runtime needs, or "".
func RuntimePackage(runtime string) string {
	pkg, _, _ := strings.Cut(defaultBase(runtime), ":")
	return pkg
}

// Scripts are the files /run/SET of all packages: a line of OSv's grammar each
// (core/commands.cc, runscript). Of sets with the same name the last counts.
func Scripts(packages []*Description) ([]rofs.File, error) {
	runs := map[string]*capstanfile.Run{}
	for _, d := range packages {
		runs[d.Name] = d.Run
	}
	scripts := map[string]string{}
	for _, d := range packages {
		if d.Run == nil {
			continue
		}
		for _, set := range d.Run.Sets {
			line, err := command(runs, d.Run, set, map[string]string{}, 0)
			if err != nil {
				return nil, fmt.Errorf("the package %s, config_set %s: %w", d.Name, set.Name, err)
			}
			scripts[set.Name] = line
		}
	}
	var files []rofs.File
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		files = append(files, rofs.File{Path: ScriptPath(name), Content: []byte(scripts[name] + "\n")})
	}
	return files, nil
}

// maxBases bounds how many sets stand upon each other.
const maxBases = 20

// command is the line that runs a set, with the variables of those that stand
// on it, which count before its own.
func command(runs map[string]*capstanfile.Run, run *capstanfile.Run, set capstanfile.ConfigSet, env map[string]string, depth int) (string, error) {
	base := set.Base
	if base == "" {
		base = defaultBase(run.Runtime)
	}
	for name, value := range set.Env {
		setOnce(env, name, value)
	}
	pkg, name, _ := strings.Cut(base, ":")
	if run.Compatible(pkg) {
		for name, value := range variables(run.Runtime, set) {
			setOnce(env, name, value)
		}
	}
	if base == "" {
		return prefix(env) + strings.TrimSpace(set.Bootcmd), nil
	}
	other := runs[pkg]
	if other == nil {
		return "", &Error{fmt.Sprintf("its base %s needs the package %s, with a %s", base, pkg, capstanfile.RunName), "that package in require of " + capstanfile.PackageName}
	}
	n := slices.IndexFunc(other.Sets, func(s capstanfile.ConfigSet) bool { return s.Name == name })
	if n < 0 {
		return "", &Error{fmt.Sprintf("its base %s is not there: the package has no such config_set", base), "capstan package describe " + pkg + " lists them"}
	}
	if depth > maxBases {
		return "", &Error{"its bases stand upon each other without end", "mend base in one of them"}
	}
	return command(runs, other, other.Sets[n], env, depth+1)
}

func setOnce(env map[string]string, name, value string) {
	if _, ok := env[name]; !ok {
		env[name] = value
	}
}

// prefix sets variables that are not set yet, as "?=" does.
func prefix(env map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		b.WriteString(disk.OSvWord("--env="+name+"?="+env[name]) + " ")
	}
	return b.String()
}

// variables are those by which a set tells its runtime what to do. The
// runtimes' commands cannot do with an empty one of arguments for the runtime
// itself: that has something harmless in it.
func variables(runtime string, set capstanfile.ConfigSet) map[string]string {
	env := map[string]string{}
	add := func(name, value, otherwise string) {
		if value == "" {
			value = otherwise
		}
		if value != "" {
			env[name] = value
		}
	}
	args := set.RuntimeArgs
	switch runtime {
	case "node":
		add("NODE_ARGS", strings.Join(args, " "), "--")
	case "python":
		add("PYTHON_ARGS", strings.Join(args, " "), "-O")
	case "java":
		if strings.HasSuffix(set.Main, ".jar") && !slices.Contains(args, "-jar") {
			args = append(slices.Clone(args), "-jar")
		}
		add("JVM_ARGS", strings.Join(args, " "), "-Dx=y")
		add("CLASSPATH", strings.Join(set.Classpath, ":"), "/")
		add("XMS", set.Xms, "")
		add("XMX", set.Xmx, "")
	}
	add("MAIN", set.Main, "")
	add("ARGS", strings.Join(set.Args, " "), "")
	if set.Shell {
		env["MAIN"], env["ARGS"] = "", ""
		if runtime == "python" {
			env["MAIN"] = "-"
		}
	}
	return env
}
