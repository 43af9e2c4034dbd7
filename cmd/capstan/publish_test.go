package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"capstan/internal/image"
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

// A -- is left out only where it keeps a flag from being taken: elsewhere it is
// the application's, as with docker run.
func TestTakePorts(t *testing.T) {
	for _, c := range []struct{ args, ports, rest, said string }{
		{"-p 1:80 x", "1:80", "x", "-p 1:80 after the image's name is taken"},
		{"-- -p 1:80", "", "-p 1:80", ""},
		{"-p 1:80 -- -p 2:80", "1:80", "-p 2:80", "is taken"},
		{"-- x", "", "-- x", ""},
		{"-- -p 1:81", "", "-- -p 1:81", ""},
		{"-p 1:81", "", "-p 1:81", "-p 1:81 after the image's name goes to the application"},
		{"-p 7000", "", "-p 7000", ""},
	} {
		var said bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetErr(&said)
		ports, rest := takePorts(cmd, image.Config{Exposed: []string{"80/tcp"}}, strings.Fields(c.args))
		if strings.Join(ports, " ") != c.ports || strings.Join(rest, " ") != c.rest {
			t.Errorf("%q: took %q and left %q; want %q and %q", c.args, ports, rest, c.ports, c.rest)
		}
		if (c.said == "") != (said.Len() == 0) || !strings.Contains(said.String(), c.said) {
			t.Errorf("%q: said %q; want %q", c.args, &said, c.said)
		}
	}
}
