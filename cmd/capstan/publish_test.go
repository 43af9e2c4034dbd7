package main

import (
	"strings"
	"testing"
)

func TestTrailingPorts(t *testing.T) {
	exposed := []string{"9042/tcp", "53/udp"}
	for _, c := range []struct{ args, ports, rest string }{
		{"", "", ""},
		{"-p 9042:9042", "9042:9042", ""},
		{"-p 9042:9042 -p 127.0.0.1:0:9042 --publish=5353:53/udp -R", "9042:9042 127.0.0.1:0:9042 5353:53/udp", "-R"},
		{"--publish 1:9042 --listen", "1:9042", "--listen"},
		{"-p 7000", "", "-p 7000"},                       // a port of the application's
		{"-p", "", "-p"},                                 // nothing follows
		{"-p 7000:7000", "", "-p 7000:7000"},             // not exposed
		{"-p 5353:53", "", "-p 5353:53"},                 // exposed, but by UDP
		{"-p x:9042", "", "-p x:9042"},                   // no mapping
		{"-p9042:9042", "", "-p9042:9042"},               // somebody's own way of writing
		{"serve -p 9042:9042", "", "serve -p 9042:9042"}, // after another argument
		{"-- -p 9042:9042", "", "-- -p 9042:9042"},       // kept for the application
		{"-p 1:9042 -- -p 2:9042", "1:9042", "-- -p 2:9042"},
		{"-d -p 9042:9042", "", "-d -p 9042:9042"},
	} {
		ports, rest := trailingPorts(strings.Fields(c.args), exposed)
		if strings.Join(ports, " ") != c.ports || strings.Join(rest, " ") != c.rest {
			t.Errorf("%q: took %q and left %q; want %q and %q", c.args, ports, rest, c.ports, c.rest)
		}
	}
}
