//go:build linux

package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// resolver is what /etc/resolv.conf says; DHCP may change it at any time.
type resolver struct {
	mu          sync.Mutex
	nameservers []string
	search      []string
	ready       bool // the root is mounted: changes are written
}

// setResolver takes over what DHCP said, unless the config says otherwise.
func (g *guest) setResolver(a address) {
	g.resolver.mu.Lock()
	defer g.resolver.mu.Unlock()
	g.resolver.nameservers, g.resolver.search = a.nameservers, a.search
	if !g.resolver.ready {
		return
	}
	if err := writeFile("/", "etc/resolv.conf", g.resolvConf()); err != nil {
		g.log.warnf("%v", err)
	}
}

// writeEtc writes the files that depend on the instance, as container engines
// do, into the root at dir.
func (g *guest) writeEtc(dir string) error {
	g.resolver.mu.Lock()
	defer g.resolver.mu.Unlock()
	addr := "127.0.1.1"
	if p, err := netip.ParsePrefix(g.cfg.Network.Address); err == nil {
		addr = p.Addr().String()
	}
	for _, f := range []struct{ name, text string }{
		{"etc/hostname", g.hostname() + "\n"},
		{"etc/hosts", hostsFile(g.hostname(), addr, g.cfg.Network.Hosts)},
		{"etc/resolv.conf", g.resolvConf()},
	} {
		if f.text == "" {
			continue
		}
		if err := writeFile(dir, f.name, f.text); err != nil {
			return err
		}
	}
	g.resolver.ready = true
	return nil
}

// resolvConf is called with the resolver locked. Without any nameserver it is
// "": the image's own file stays.
func (g *guest) resolvConf() string {
	nameservers, search := g.cfg.Network.Nameservers, g.cfg.Network.Search
	if len(nameservers) == 0 {
		nameservers = g.resolver.nameservers
	}
	if len(search) == 0 {
		search = g.resolver.search
	}
	return resolvFile(nameservers, search)
}

func resolvFile(nameservers, search []string) string {
	if len(nameservers) == 0 {
		return ""
	}
	var b strings.Builder
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for _, ns := range nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", ns)
	}
	return b.String()
}

// hostsFile is /etc/hosts as container engines write it. "localhost" is the
// first name of both loopbacks.
func hostsFile(hostname, addr string, extra map[string]string) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	names := hostname
	if short, _, ok := strings.Cut(hostname, "."); ok {
		names += " " + short
	}
	fmt.Fprintf(&b, "%s\t%s\n", addr, names)
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		fmt.Fprintf(&b, "%s\t%s\n", extra[name], name)
	}
	return b.String()
}

// writeFile makes the file name below dir say text. Symbolic links are
// replaced, since an image's may lead anywhere; what is right already is left
// alone.
func writeFile(dir, name, text string) error {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err == nil && info.Mode().IsRegular() {
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, []byte(text)) {
			return nil
		}
	} else if err == nil {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("writing /%s: %w", name, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing /%s: %w", name, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing /%s: %w", name, err)
	}
	return nil
}
