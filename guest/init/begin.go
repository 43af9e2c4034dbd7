//go:build linux

package main

import (
	"net/netip"

	"capstan/guest/api"
)

// begin tells a host that can only read the console where the application's
// output begins, and the machine's address.
func (g *guest) begin() {
	b := api.Begin{Boot: bootID()}
	if p, err := netip.ParsePrefix(g.cfg.Network.Address); err == nil {
		b.Address = p.Addr().String()
	} else if g.leased.IsValid() {
		b.Address = g.leased.Addr().String()
	}
	if err := g.console.writeLast(api.FormatBegin(b), drainStall); err != nil {
		g.log.warnf("reporting the beginning: %v", err)
	}
}

// bootID is another one at each start.
func bootID() string { return attribute("/proc/sys/kernel/random/boot_id") }
