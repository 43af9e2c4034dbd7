//go:build linux

package main

import (
	"strconv"
	"unicode/utf8"

	"capstan/guest/api"
)

// decodeConfig reads a config document of the plain form that the host
// writes, and gives up on any other: encoding/json takes those, and finds the
// words for what is wrong with them. Its reflection costs a start 10 ms under
// TCG, a tenth of PID 1's share.
func decodeConfig(doc []byte) (cfg api.Config, ok bool) {
	s := &scanner{rest: doc}
	s.object(func(key string) {
		switch key {
		case "version":
			cfg.Version = int(s.integer())
		case "args":
			cfg.Args = s.texts()
		case "env":
			cfg.Env = s.texts()
		case "workdir":
			cfg.Workdir = s.text()
		case "user":
			cfg.User = s.text()
		case "hostname":
			cfg.Hostname = s.text()
		case "tty":
			cfg.TTY = s.boolean()
		case "rows":
			cfg.Rows = int(s.integer())
		case "cols":
			cfg.Cols = int(s.integer())
		case "stdin":
			cfg.Stdin = s.boolean()
		case "stop_signal":
			cfg.StopSignal = s.text()
		case "stop_timeout":
			cfg.StopTimeout = int(s.integer())
		case "console":
			cfg.Console = s.text()
		case "control":
			cfg.Control = s.text()
		case "root":
			s.root(&cfg.Root)
		case "network":
			s.network(&cfg.Network)
		case "mounts":
			s.mounts(&cfg.Mounts)
		case "sysctls":
			cfg.Sysctls = s.table()
		case "image":
			s.image(&cfg.Image)
		case "time":
			cfg.Time = s.integer()
		case "begin":
			cfg.Begin = s.boolean()
		case "stop_by_nmi":
			cfg.StopByNMI = s.boolean()
		case "verbose":
			cfg.Verbose = s.boolean()
		default:
			s.failed = true
		}
	})
	s.space()
	return cfg, !s.failed && len(s.rest) == 0
}

func (s *scanner) image(i *api.Image) {
	s.object(func(key string) {
		switch key {
		case "name":
			i.Name = s.text()
		case "digest":
			i.Digest = s.text()
		case "memory":
			i.Memory = s.integer()
		case "cpus":
			i.CPUs = int(s.integer())
		case "ports":
			i.Ports = s.texts()
		default:
			s.failed = true
		}
	})
}

func (s *scanner) root(r *api.Root) {
	s.object(func(key string) {
		switch key {
		case "lower":
			r.Lower = s.texts()
		case "upper":
			r.Upper = s.text()
		case "read_only":
			r.ReadOnly = s.boolean()
		default:
			s.failed = true
		}
	})
}

func (s *scanner) network(n *api.Network) {
	s.object(func(key string) {
		switch key {
		case "none":
			n.None = s.boolean()
		case "address":
			n.Address = s.text()
		case "gateway":
			n.Gateway = s.text()
		case "nameservers":
			n.Nameservers = s.texts()
		case "search":
			n.Search = s.texts()
		case "hosts":
			n.Hosts = s.table()
		default:
			s.failed = true
		}
	})
}

func (s *scanner) mounts(all *[]api.Mount) {
	*all = []api.Mount{}
	s.array(func() {
		var m api.Mount
		s.object(func(key string) {
			switch key {
			case "type":
				m.Type = s.text()
			case "source":
				m.Source = s.text()
			case "target":
				m.Target = s.text()
			case "file":
				m.File = s.text()
			case "read_only":
				m.ReadOnly = s.boolean()
			case "wait":
				m.Wait = int(s.integer())
			default:
				s.failed = true
			}
		})
		*all = append(*all, m)
	})
}

// scanner reads JSON (RFC 8259) from the front of rest. After a failure its
// results mean nothing.
type scanner struct {
	rest   []byte
	failed bool
}

func (s *scanner) space() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\t' || s.rest[0] == '\r') {
		s.rest = s.rest[1:]
	}
}

// take reads one character if it is c.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.failed || len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) need(c byte) {
	if !s.take(c) {
		s.failed = true
	}
}

// sequence reads what stands between two brackets, separated by commas.
func (s *scanner) sequence(open, end byte, item func()) {
	s.need(open)
	if s.take(end) {
		return
	}
	for !s.failed {
		item()
		if s.take(end) {
			return
		}
		s.need(',')
	}
}

func (s *scanner) array(item func()) { s.sequence('[', ']', item) }

// maxKeys is how many keys an object of the plain form has at most.
const maxKeys = 1000

// object calls value for every key; a key that comes twice is a failure.
func (s *scanner) object(value func(key string)) {
	var seen []string
	s.sequence('{', '}', func() {
		key := s.text()
		s.failed = s.failed || len(seen) == maxKeys
		for _, k := range seen {
			if k == key {
				s.failed = true
			}
		}
		seen = append(seen, key)
		s.need(':')
		if !s.failed {
			value(key)
		}
	})
}

func (s *scanner) texts() []string {
	all := []string{}
	s.array(func() { all = append(all, s.text()) })
	return all
}

func (s *scanner) table() map[string]string {
	all := map[string]string{}
	s.object(func(key string) { all[key] = s.text() })
	return all
}

// text reads a string. Of the escapes it knows the short ones and those that
// encoding/json writes for ASCII.
func (s *scanner) text() string {
	s.need('"')
	var b []byte
	for !s.failed {
		if len(s.rest) == 0 || s.rest[0] < ' ' {
			s.failed = true
			break
		}
		c := s.rest[0]
		s.rest = s.rest[1:]
		if c == '"' {
			break
		}
		if c == '\\' {
			c = s.escape()
		}
		b = append(b, c)
	}
	if !utf8.Valid(b) {
		s.failed = true
	}
	return string(b)
}

func (s *scanner) escape() byte {
	if len(s.rest) == 0 {
		s.failed = true
		return 0
	}
	c := s.rest[0]
	s.rest = s.rest[1:]
	switch c {
	case '"', '\\', '/':
		return c
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	case 'u':
		if len(s.rest) >= 4 {
			if n, err := strconv.ParseUint(string(s.rest[:4]), 16, 16); err == nil && n < utf8.RuneSelf {
				s.rest = s.rest[4:]
				return byte(n)
			}
		}
	}
	s.failed = true
	return 0
}

// integer reads a whole number of at most 18 digits.
func (s *scanner) integer() int64 {
	negative := s.take('-')
	if !negative {
		s.space()
	}
	var n int64
	digits := 0
	for len(s.rest) > digits && s.rest[digits] >= '0' && s.rest[digits] <= '9' {
		n = n*10 + int64(s.rest[digits]-'0')
		if digits++; digits > 18 {
			break
		}
	}
	if digits == 0 || digits > 18 || digits > 1 && s.rest[0] == '0' {
		s.failed = true
		return 0
	}
	s.rest = s.rest[digits:]
	if negative {
		return -n
	}
	return n
}

func (s *scanner) boolean() bool {
	s.space()
	for _, word := range []string{"true", "false"} {
		if len(s.rest) >= len(word) && string(s.rest[:len(word)]) == word {
			s.rest = s.rest[len(word):]
			return word == "true"
		}
	}
	s.failed = true
	return false
}
