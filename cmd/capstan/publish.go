package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/image"
)

// trailingPorts takes the flags -p HOST:GUEST that stand right after the
// image's name out of the application's arguments, as old Capstan's users write
// them. What follows the image is the application's, as with docker run: an
// argument is taken only where it can mean nothing else. It must be -p or
// --publish with a whole mapping, to a port that the image exposes, before the
// application's first other argument; so -p 7000 stays, and so does whatever
// follows --.
func trailingPorts(args, exposed []string) (ports, rest []string) {
	rest = args
	for {
		mapping, n := publishFlag(rest)
		if n == 0 || !exposes(exposed, mapping) {
			return ports, rest
		}
		ports, rest = append(ports, mapping), rest[n:]
	}
}

// takePorts does that and says so. A -- that keeps such a flag for the
// application has done its work, and is left out of the arguments.
func takePorts(cmd *cobra.Command, said image.Config, args []string) (ports, rest []string) {
	ports, rest = trailingPorts(args, said.Exposed)
	for _, p := range ports {
		note(cmd, "-p %s after the image's name is taken for capstan's own: the image exposes that port", p)
	}
	mapping, _ := publishFlag(rest)
	if _, err := parsePort(mapping); err == nil {
		note(cmd, "-p %s after the image's name goes to the application: the image does not expose that port", mapping)
	}
	if len(rest) > 0 && rest[0] == "--" {
		if kept, _ := trailingPorts(rest[1:], said.Exposed); len(kept) > 0 {
			rest = rest[1:]
		}
	}
	return ports, rest
}

// publishFlag returns the value of the flag that args begins with, and how
// many of args it takes; 0 if args does not begin with -p or --publish.
func publishFlag(args []string) (value string, n int) {
	if len(args) == 0 {
		return "", 0
	}
	if value, ok := strings.CutPrefix(args[0], "--publish="); ok {
		return value, 1
	}
	if (args[0] == "-p" || args[0] == "--publish") && len(args) > 1 {
		return args[1], 2
	}
	return "", 0
}

// exposes reports whether mapping is one of HOST:GUEST to an exposed port.
func exposes(exposed []string, mapping string) bool {
	p, err := parsePort(mapping)
	return err == nil && slices.Contains(exposed, strconv.Itoa(int(p.Guest))+"/"+p.Protocol)
}
