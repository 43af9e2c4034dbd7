//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"time"
)

const (
	// device is the one network interface.
	device = "eth0"
	// linkWait bounds the wait for it.
	linkWait = 3 * time.Second
)

// address is what eth0 is to be, from the config or from DHCP.
type address struct {
	prefix      netip.Prefix
	gateway     netip.Addr // the zero Addr: none
	routes      []hop
	nameservers []string
	search      []string
	mtu         int // 0: as it is
}

// hop is a further route, by DHCP's option 121.
type hop struct {
	to      netip.Prefix
	gateway netip.Addr
}

// setNetwork brings the loopback and eth0 up before the application starts.
// A network that does not come is told and not waited for: the application
// may do without. keep looks after the network from then on, for as long as
// the machine runs.
func (g *guest) setNetwork() (keep func(), err error) {
	const loopback = 1 // always the first
	up := linkUp(loopback, 0)
	n := &g.cfg.Network
	var index int
	switch {
	case n.None:
	case !until(linkWait, func() bool { index = linkIndex(device); return index > 0 }):
		g.log.warnf("the machine has no network interface %s", device)
	case n.Address == "":
		return g.startDHCP(index, up), nil
	default:
		a, err := staticAddress(n.Address, n.Gateway)
		if err != nil {
			return nil, err
		}
		if err := commit(append([]change{up}, a.changes(index, netip.Prefix{})...)...); err != nil {
			g.log.warnf("%v", err)
		}
		return func() {}, nil
	}
	if err := commit(up); err != nil {
		g.log.warnf("%v", err)
	}
	return func() {}, nil
}

func staticAddress(cidr, gateway string) (address, error) {
	var a address
	var err error
	if a.prefix, err = netip.ParsePrefix(cidr); err != nil {
		return a, fmt.Errorf("the instance config's network address is not valid: %w", err)
	}
	if gateway != "" {
		if a.gateway, err = netip.ParseAddr(gateway); err != nil {
			return a, fmt.Errorf("the instance config's gateway is not valid: %w", err)
		}
	}
	return a, nil
}

// changes are what gives eth0 this address in place of old, which may be none.
func (a address) changes(index int, old netip.Prefix) []change {
	all := []change{linkUp(index, a.mtu)}
	if old.IsValid() && old != a.prefix {
		all = append(all, removeAddress(index, old))
	}
	all = append(all, addAddress(index, a.prefix))
	for _, r := range a.routes {
		all = append(all, addRoute(index, a.prefix, r))
	}
	if a.gateway.IsValid() {
		all = append(all, addRoute(index, a.prefix, hop{gateway: a.gateway}))
	}
	return all
}
