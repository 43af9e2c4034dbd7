package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"capstan/internal/hypervisor"
	"capstan/internal/instance"
)

func parseRestart(s string) (instance.Restart, error) {
	policy, count, counted := strings.Cut(s, ":")
	r := instance.Restart{Policy: policy}
	switch {
	case s == "no" || s == "":
		return instance.Restart{}, nil
	case s == "always" || s == "on-failure":
		return r, nil
	case policy == "on-failure" && counted:
		n, err := strconv.Atoi(count)
		if err == nil && n > 0 {
			r.Max = n
			return r, nil
		}
	}
	return r, fmt.Errorf("--restart %s: expected no, on-failure, on-failure:N or always", s)
}

func parseLabels(list []string) (map[string]string, error) {
	labels := make(map[string]string, len(list))
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		if k == "" {
			return nil, fmt.Errorf("-l %s: expected KEY=VALUE", kv)
		}
		labels[k] = v
	}
	return labels, nil
}

// parsePorts reads [IP:]HOST:GUEST[/udp].
func parsePorts(list []string) ([]hypervisor.Port, error) {
	var ports []hypervisor.Port
	for _, s := range list {
		if err := oldPlatform(s); err != nil {
			return nil, err
		}
		p, err := parsePort(s)
		if err != nil {
			return nil, fmt.Errorf("-p %s: %w", s, err)
		}
		if p.HostPort != 0 && slices.ContainsFunc(ports, func(o hypervisor.Port) bool {
			return o.Host == p.Host && o.HostPort == p.HostPort && o.Protocol == p.Protocol
		}) {
			return nil, fmt.Errorf("-p %s: the host's port %d is given twice", s, p.HostPort)
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func parsePort(s string) (hypervisor.Port, error) {
	p := hypervisor.Port{Host: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Protocol: "tcp"}
	s, proto, given := strings.Cut(s, "/")
	if given {
		if proto != "tcp" && proto != "udp" {
			return p, fmt.Errorf("the protocol is tcp or udp")
		}
		p.Protocol = proto
	}
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		if _, err := strconv.ParseUint(s, 10, 16); err != nil {
			s = "8080"
		}
		return p, fmt.Errorf("expected HOST:GUEST, such as %s:%s, or 0:%s for any free port", s, s, s)
	}
	host, guest := s[:at], s[at+1:]
	if at := strings.LastIndexByte(host, ':'); at >= 0 {
		addr, err := netip.ParseAddr(strings.Trim(host[:at], "[]"))
		if err != nil {
			return p, fmt.Errorf("%q is no IP address", host[:at])
		}
		p.Host, host = addr, host[at+1:]
	}
	for _, part := range []struct {
		text string
		to   *uint16
		low  uint64
	}{{host, &p.HostPort, 0}, {guest, &p.Guest, 1}} {
		n, err := strconv.ParseUint(part.text, 10, 16)
		if err != nil || n < part.low {
			return p, fmt.Errorf("%q is no port: expected %d to 65535", part.text, part.low)
		}
		*part.to = uint16(n)
	}
	return p, nil
}

// environment reads -e and --env-file; what -e says counts.
func environment(list, files []string) ([]string, error) {
	var env []string
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", name, cause(err))
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			line := strings.TrimLeft(lines.Text(), " \t")
			if line == "" || line[0] == '#' {
				continue
			}
			if line[0] == '=' {
				return nil, fmt.Errorf("--env-file %s:%d: expected NAME=VALUE", name, n)
			}
			env = appendEnv(env, line)
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			return nil, fmt.Errorf("--env-file %s: a line has more than %s", name, size(bufio.MaxScanTokenSize))
		} else if err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", name, cause(err))
		}
	}
	for _, kv := range list {
		if !strings.Contains(kv, "=") && strings.ContainsAny(kv, "/ ") {
			return nil, oldExecute(kv)
		}
		if kv == "" || kv[0] == '=' {
			return nil, fmt.Errorf("-e %q: expected NAME=VALUE; the application's command is set by arguments, or by --entrypoint", kv)
		}
		env = appendEnv(env, kv)
	}
	return env, nil
}

// cause is what is below an error of the package os, whose own text repeats the
// path.
func cause(err error) error {
	if path, ok := err.(*fs.PathError); ok {
		return path.Err
	}
	return err
}

// appendEnv adds NAME=VALUE, or NAME with this process's value if it has one.
func appendEnv(env []string, kv string) []string {
	if strings.Contains(kv, "=") {
		return append(env, kv)
	}
	if value, ok := os.LookupEnv(kv); ok {
		return append(env, kv+"="+value)
	}
	return env
}

// parseNetwork reads --network.
func parseNetwork(s string) (none bool, bridge string, err error) {
	switch bridge, bridged := strings.CutPrefix(s, "bridge:"); {
	case s == "" || s == "nat":
		return false, "", nil
	case s == "none":
		return true, "", nil
	case bridged && bridge != "":
		return false, bridge, nil
	}
	return false, "", fmt.Errorf("--network %s: expected nat, none or bridge:INTERFACE", s)
}
