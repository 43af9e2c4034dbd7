package capstanfile

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// readers maps each key to the method that reads its value.
func readers() map[string]func(*parser, *yaml.Node) {
	return map[string]func(*parser, *yaml.Node){
		"base":    (*parser).base,
		"cmdline": (*parser).cmdline,
		"build":   (*parser).build,
		"files":   (*parser).files,
		"rootfs":  (*parser).rootfs,
		"env":     (*parser).env,
		"workdir": (*parser).workdir,
		"user":    (*parser).user,
		"expose":  (*parser).expose,
		"volumes": (*parser).volumes,
		"memory":  (*parser).memory,
		"cpus":    (*parser).cpus,
		"labels":  (*parser).labels,
		"arch":    (*parser).arch,
	}
}

// keys reads the top-level keys.
func (p *parser) keys(root *yaml.Node) {
	known := readers()
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	sort.Strings(names)
	given := map[string]bool{}
	for _, e := range p.entries(root, "", "keys") {
		given[e.key] = true
		read, ok := known[e.key]
		switch {
		case ok:
			p.file.lines[e.key] = e.keyNode.Line
			read(p, e.value)
		case e.key == "rpm-base":
			p.wrong(e.keyNode, "rpm-base", "no longer supported: name an image as base, "+
				"or unpack the package into the rootfs directory (rpm2cpio NAME.rpm | cpio -idm)", "", "")
		case e.key == "<<":
			p.wrong(e.keyNode, "<<", "merge keys are not supported", "", "")
		default:
			better := otherNames()[strings.ToLower(e.key)]
			if better == "" {
				better = Suggest(e.key, names)
			}
			expected := ""
			if better == "" {
				expected = "one of " + strings.Join(names, ", ")
			}
			p.wrong(e.keyNode, oneLine(e.key), "unknown key", expected, better)
		}
	}
	if p.file.notWords != nil && !given["base"] {
		p.mistakes = append(p.mistakes, p.file.notWords) // else the base may be OSv's
	}
	if len(p.mistakes) == 0 && !given["base"] && !given["cmdline"] {
		p.fail(root.Line, "cmdline is missing, and there is no base to bring a command",
			`"cmdline: /path/to/program" or "base: IMAGE"`)
	}
}

func (p *parser) base(n *yaml.Node) {
	const expected = "an image name such as debian:12"
	s, ok := p.filled(n, "base", expected)
	if ok && strings.ContainsAny(s, " \t\r\n") {
		p.wrong(n, "base", clip(s)+" has blanks in it", expected, "")
		return
	}
	p.file.Base = s
}

func (p *parser) cmdline(n *yaml.Node) {
	const expected = "a command line, or a list of words"
	if n.Kind != yaml.SequenceNode {
		s, ok := p.filled(n, "cmdline", expected)
		if !ok {
			return
		}
		words, err := splitWords(s)
		if err != nil {
			p.file.notWords = &Error{File: p.file.Name, Line: n.Line, Column: n.Column, Key: "cmdline", Problem: err.Error()}
		}
		p.file.CmdlineText, p.file.Cmdline = s, words
		if err != nil {
			return
		}
	} else {
		for _, item := range p.list(n, "cmdline", expected) {
			s, ok := p.scalar(item, "cmdline", "a word")
			if !ok {
				return
			}
			p.file.Cmdline = append(p.file.Cmdline, s)
		}
	}
	if len(p.file.Cmdline) == 0 || p.file.Cmdline[0] == "" {
		p.wrong(n, "cmdline", "names no program", expected, "")
	}
}

func (p *parser) build(n *yaml.Node) {
	p.file.Build, _ = p.filled(n, "build", "a shell command such as make")
}

func (p *parser) rootfs(n *yaml.Node) {
	const expected = "a directory below the Capstanfile's"
	s, ok := p.filled(n, "rootfs", expected)
	if ok {
		p.file.Rootfs, _ = p.hostPath(n, "rootfs", s, expected)
	}
}

func (p *parser) files(n *yaml.Node) {
	const value = "a path relative to the Capstanfile's directory, such as build/&"
	for _, e := range p.entries(n, "files", "a map of guest path to host path") {
		key := "files " + oneLine(e.key)
		c := Copy{Line: e.keyNode.Line, Into: strings.HasSuffix(e.key, "/")}
		var ok bool
		if c.Guest, ok = p.guestPath(e.keyNode, key, e.key); !ok {
			continue
		}
		s, ok := p.filled(e.value, key, value)
		if !ok {
			continue
		}
		if c.Host, ok = p.hostPath(e.value, key, substitute(s, e.key), value); ok {
			p.file.Files = append(p.file.Files, c)
		}
	}
}

func (p *parser) env(n *yaml.Node) {
	for _, kv := range p.pairs(n, "env") {
		p.file.Env = append(p.file.Env, kv.name+"="+kv.value)
	}
}

func (p *parser) labels(n *yaml.Node) {
	for _, kv := range p.pairs(n, "labels") {
		if p.file.Labels == nil {
			p.file.Labels = map[string]string{}
		}
		p.file.Labels[kv.name] = kv.value
	}
}

type pair struct{ name, value string }

// pairs reads a map, or a list of NAME=value.
func (p *parser) pairs(n *yaml.Node, key string) []pair {
	const expected = "a map, or a list of NAME=value"
	var all []pair
	if n.Kind == yaml.MappingNode {
		for _, e := range p.entries(n, key, expected) {
			k := key + " " + oneLine(e.key)
			if strings.ContainsAny(e.key, "=\x00") {
				p.wrong(e.keyNode, k, "a name must not contain =", "", "")
				continue
			}
			if s, ok := p.scalar(e.value, k, `a value ("" for an empty one)`); ok {
				all = append(all, pair{e.key, s})
			}
		}
		return all
	}
	seen := map[string]int{}
	for _, item := range p.list(n, key, expected) {
		s, ok := p.scalar(item, key, "NAME=value")
		if !ok {
			continue
		}
		name, value, ok := strings.Cut(s, "=")
		switch line, again := seen[name]; {
		case !ok || name == "":
			p.wrong(item, key, "found "+clip(s), "NAME=value", "")
		case again:
			p.wrong(item, key+" "+oneLine(name), fmt.Sprintf("given twice, first on line %d", line), "", "")
		default:
			seen[name] = item.Line
			all = append(all, pair{name, value})
		}
	}
	return all
}

func (p *parser) workdir(n *yaml.Node) {
	if s, ok := p.filled(n, "workdir", "an absolute guest path such as /srv"); ok {
		p.file.Workdir, _ = p.guestPath(n, "workdir", s)
	}
}

var userForm = regexp.MustCompile(`^[^\s:]+(:[^\s:]+)?$`)

func (p *parser) user(n *yaml.Node) {
	const expected = "user or user:group, as names or numbers"
	s, ok := p.filled(n, "user", expected)
	if ok && !userForm.MatchString(s) {
		p.wrong(n, "user", "found "+clip(s), expected, "")
	}
	p.file.User = s
}

var portForm = regexp.MustCompile(`^(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp))?$`)

func (p *parser) expose(n *yaml.Node) {
	const expected = "a port such as 8080, 53/udp or 8000-8010"
	seen := map[string]bool{}
	for _, item := range p.list(n, "expose", expected) {
		s, ok := p.filled(item, "expose", expected)
		if !ok {
			continue
		}
		if strings.Contains(s, ":") {
			p.wrong(item, "expose", clip(s)+" names a host port, which is for capstan run -p", expected, "")
			continue
		}
		r, ok := parsePorts(s)
		switch {
		case !ok:
			p.wrong(item, "expose", "found "+clip(s), expected, "")
		case seen[r.String()]:
			p.wrong(item, "expose", r.String()+" is given twice", "", "")
		default:
			seen[r.String()] = true
			p.file.Expose = append(p.file.Expose, r)
		}
	}
}

// parsePorts reads "8080", "53/udp" or "8000-8010/tcp".
func parsePorts(s string) (PortRange, bool) {
	m := portForm.FindStringSubmatch(s)
	if m == nil {
		return PortRange{}, false
	}
	r := PortRange{Proto: "tcp"}
	r.First, _ = strconv.Atoi(m[1])
	r.Last = r.First
	if m[2] != "" {
		r.Last, _ = strconv.Atoi(m[2])
	}
	if m[3] != "" {
		r.Proto = m[3]
	}
	return r, r.First >= 1 && r.First <= r.Last && r.Last <= 65535
}

func (p *parser) volumes(n *yaml.Node) {
	const expected = "an absolute guest path such as /data"
	seen := map[string]bool{}
	for _, item := range p.list(n, "volumes", expected) {
		s, ok := p.filled(item, "volumes", expected)
		if !ok {
			continue
		}
		if strings.Contains(s, ":") {
			p.wrong(item, "volumes", clip(s)+" names what to mount, which is for capstan run -v", expected, "")
			continue
		}
		guest, ok := p.guestPath(item, "volumes", s)
		switch {
		case !ok:
		case guest == "/":
			p.wrong(item, "volumes", "the root itself cannot be a volume", expected, "")
		case seen[guest]:
			p.wrong(item, "volumes", guest+" is given twice", "", "")
		default:
			seen[guest] = true
			p.file.Volumes = append(p.file.Volumes, guest)
		}
	}
}

func (p *parser) memory(n *yaml.Node) {
	s, ok := p.filled(n, "memory", memoryExpected)
	if !ok {
		return
	}
	bytes, err := ParseMemory(s)
	if err != nil {
		p.wrong(n, "memory", err.Error(), memoryExpected, "")
	}
	p.file.Memory = bytes
}

func (p *parser) cpus(n *yaml.Node) {
	const expected = "a whole number, 1 or more"
	s, ok := p.filled(n, "cpus", expected)
	if !ok {
		return
	}
	cpus, err := strconv.Atoi(s)
	if err != nil || cpus < 1 || cpus > maxCPUs {
		p.wrong(n, "cpus", "found "+clip(s), expected, "")
	}
	p.file.CPUs = cpus
}

func (p *parser) arch(n *yaml.Node) {
	const expected = "amd64 or arm64"
	s, ok := p.filled(n, "arch", expected)
	if !ok {
		return
	}
	other := map[string]string{"x86_64": "amd64", "x86-64": "amd64", "x64": "amd64", "aarch64": "arm64", "arm64v8": "arm64"}
	if s != "amd64" && s != "arm64" {
		better := other[strings.ToLower(s)]
		if better == "" {
			better = Suggest(s, []string{"amd64", "arm64"})
		}
		p.wrong(n, "arch", "found "+clip(s), expected, better)
	}
	p.file.Arch = s
}
