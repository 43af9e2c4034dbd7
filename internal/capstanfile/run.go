package capstanfile

import (
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Run is what a meta/run.yaml says: how a package's application is run, in one
// or more ways.
type Run struct {
	Runtime string
	Sets    []ConfigSet // by name
	Default []string    // names of those to run where nobody says which
}

// ConfigSet is one way to run an application. Which of its fields a runtime
// has, old Capstan's documentation of it says.
type ConfigSet struct {
	Name string
	Env  map[string]string
	// Base is "PACKAGE:SET", the set of another package whose command is run.
	Base string

	Bootcmd     string   // native: the command
	Main        string   // node, python: the script; java: the class or .jar
	Args        []string // node, python, java: its arguments
	RuntimeArgs []string // node_args, python_args, jvm_args
	Shell       bool     // node, python: the interactive interpreter
	Classpath   []string // java
	Xms, Xmx    string   // java: initial and largest memory
}

// Runtimes are those of old Capstan's, by name.
func Runtimes() []string { return sortedKeys(runtimes()) }

// runtime is what the sets of one runtime have.
type runtime struct {
	keys []string // beside env and base
	args string   // the key of RuntimeArgs
	// compatible begins the names of packages that, as base, stand in for the
	// runtime's own; others bring a command of their own.
	compatible string
}

func runtimes() map[string]runtime {
	return map[string]runtime{
		"native": {keys: []string{"bootcmd"}},
		"node":   {keys: []string{"main", "args", "node_args", "shell"}, args: "node_args", compatible: "node-"},
		"java":   {keys: []string{"main", "args", "jvm_args", "classpath", "xms", "xmx"}, args: "jvm_args", compatible: "openjdk"},
		"python": {keys: []string{"main", "args", "python_args", "shell"}, args: "python_args", compatible: "python-"},
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// ParseRun checks the text of a meta/run.yaml. The name is for messages.
func ParseRun(name string, data []byte, from Source) (*Run, error) {
	p := &parser{file: &File{Name: name}}
	run := &Run{}
	if root := p.documentOf(data, `keys such as "runtime: native"`); root != nil {
		p.runKeys(root, run, from)
	}
	if err := join(p.mistakes); err != nil {
		return nil, err
	}
	return run, nil
}

func (p *parser) runKeys(root *yaml.Node, run *Run, from Source) {
	var sets *yaml.Node
	p.mapping(root, "", from, map[string]func(*yaml.Node, string){
		"runtime": func(n *yaml.Node, key string) {
			names := Runtimes()
			s, ok := p.filled(n, key, "one of "+strings.Join(names, ", "))
			if ok && !slices.Contains(names, s) {
				p.wrong(n, key, "found "+clip(s), "one of "+strings.Join(names, ", "), Suggest(s, names))
			}
			run.Runtime = s
		},
		"config_set": func(n *yaml.Node, _ string) { sets = n },
		"config_set_default": func(n *yaml.Node, key string) {
			s, _ := p.filled(n, key, "the name of a config_set")
			for part := range strings.SplitSeq(s, ",") {
				run.Default = append(run.Default, strings.TrimSpace(part))
			}
		},
	})
	switch {
	case len(p.mistakes) > 0:
		return
	case run.Runtime == "":
		p.fail(root.Line, "runtime is missing", "one of "+strings.Join(Runtimes(), ", "))
		return
	case sets == nil || isNull(sets):
		p.fail(root.Line, "config_set is missing", "at least one set with a name")
		return
	}
	for _, e := range p.entries(sets, "config_set", "named sets") {
		if !ValidSet(e.key) {
			p.wrong(e.keyNode, "config_set "+oneLine(e.key), "is no name for a set: it becomes that of the file /run/NAME", "letters, digits, dots and hyphens", "")
			continue
		}
		run.Sets = append(run.Sets, p.configSet(e, runtimes()[run.Runtime], from))
	}
	slices.SortFunc(run.Sets, func(a, b ConfigSet) int { return strings.Compare(a.Name, b.Name) })
	if len(run.Sets) == 0 && len(p.mistakes) == 0 {
		p.fail(sets.Line, "config_set is empty", "at least one set with a name")
	}
	if len(run.Sets) == 1 && run.Default == nil {
		run.Default = []string{run.Sets[0].Name}
	}
	for _, name := range run.Default {
		if !slices.ContainsFunc(run.Sets, func(s ConfigSet) bool { return s.Name == name }) && len(p.mistakes) == 0 && from == Own {
			p.fail(root.Line, "config_set_default: there is no config_set "+clip(name), "one of those in config_set")
		}
	}
}

// configSet reads one set.
func (p *parser) configSet(e entry, rt runtime, from Source) ConfigSet {
	s := ConfigSet{Name: e.key}
	text := func(to *string) func(*yaml.Node, string) {
		return func(n *yaml.Node, key string) { *to, _ = p.filled(n, key, "a text") }
	}
	words := func(to *[]string) func(*yaml.Node, string) {
		return func(n *yaml.Node, key string) {
			for _, item := range p.list(n, key, "a list of words") {
				if w, ok := p.scalar(item, key, "a word"); ok {
					*to = append(*to, w)
				}
			}
		}
	}
	all := map[string]func(*yaml.Node, string){
		"bootcmd": text(&s.Bootcmd), "main": text(&s.Main), "xms": text(&s.Xms), "xmx": text(&s.Xmx),
		"args": words(&s.Args), "classpath": words(&s.Classpath),
		"shell": func(n *yaml.Node, key string) { s.Shell = p.flag(n, key) },
	}
	if rt.args != "" {
		all[rt.args] = words(&s.RuntimeArgs)
	}
	known := map[string]func(*yaml.Node, string){
		"env":  func(n *yaml.Node, key string) { s.Env = p.environment(n, key) },
		"base": func(n *yaml.Node, key string) { s.Base = p.baseSet(n, key) },
	}
	for _, key := range rt.keys {
		known[key] = all[key]
	}
	key := "config_set " + e.key
	before := len(p.mistakes)
	p.mapping(e.value, key, from, known)
	if problem := s.problem(rt, from); problem != "" && len(p.mistakes) == before {
		p.wrong(e.keyNode, key, problem, "", "")
	}
	return s
}

// problem is what the fields of a set do not say, or contradict.
func (s *ConfigSet) problem(rt runtime, from Source) string {
	pkg, _, _ := strings.Cut(s.Base, ":")
	if s.Base != "" && rt.args == "" && from == Foreign {
		return "" // a bootcmd beside a base did no harm
	}
	own := s.Base == "" || rt.compatible != "" && strings.HasPrefix(pkg, rt.compatible)
	takes := s.Bootcmd != "" || s.Main != "" || s.Args != nil || s.RuntimeArgs != nil || s.Shell || s.Classpath != nil || s.Xms != "" || s.Xmx != ""
	switch {
	case !own && takes:
		return "base brings a command of its own, and does not take " + strings.Join(rt.keys, ", ")
	case s.Shell && (s.Main != "" || s.Args != nil):
		return "shell is the interpreter alone, and does not take main and args"
	case s.Shell && (s.Env["MAIN"] != "" || s.Env["ARGS"] != ""):
		return "shell is the interpreter alone, and does not take MAIN and ARGS in env"
	case own && rt.args == "" && s.Bootcmd == "":
		return "bootcmd is missing"
	case own && rt.args != "" && !s.Shell && s.Main == "" && s.Env["MAIN"] == "":
		return "main is missing"
	}
	return ""
}

// Compatible tells whether a base stands in for the runtime's own.
func (r *Run) Compatible(base string) bool {
	with := runtimes()[r.Runtime].compatible
	return with != "" && strings.HasPrefix(base, with)
}

func (p *parser) flag(n *yaml.Node, key string) bool {
	s, ok := p.filled(n, key, "true or false")
	if ok && s != "true" && s != "false" {
		p.wrong(n, key, "found "+clip(s), "true or false", "")
	}
	return s == "true"
}

func (p *parser) baseSet(n *yaml.Node, key string) string {
	const expected = `a set of a package: "PACKAGE:SET"`
	s, ok := p.filled(n, key, expected)
	pkg, set, both := strings.Cut(s, ":")
	if ok && (!both || !ValidPackage(pkg) || !ValidSet(set)) {
		p.wrong(n, key, "found "+clip(s), expected, "")
	}
	return s
}

func (p *parser) environment(n *yaml.Node, key string) map[string]string {
	env := map[string]string{}
	for _, e := range p.entries(n, key, "names and values") {
		value, ok := "", true
		if !isNull(e.value) { // which packages write for an empty one
			value, ok = p.scalar(e.value, key+" "+oneLine(e.key), "a value")
		}
		if strings.ContainsAny(e.key, "=? \t\r\n") {
			p.wrong(e.keyNode, key+" "+oneLine(e.key), "is no name of a variable", "letters, digits and underscores", "")
		} else if ok && strings.ContainsAny(value, "\r\n") {
			p.wrong(e.value, key+" "+e.key, "has a line break in it", "one line", "")
		}
		env[e.key] = value
	}
	return env
}
