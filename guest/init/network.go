//go:build linux

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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
	routes      []route
	nameservers []string
	search      []string
	mtu         int // 0: as it is
}

// route is a further route, by DHCP's option 121.
type route struct {
	to      netip.Prefix
	gateway netip.Addr
}

// setNetwork brings the loopback and eth0 up before the application starts.
// A network that does not come is told and not waited for: the application
// may do without.
func (g *guest) setNetwork() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		g.log.warnf("setting the loopback interface up: %v", err)
	}
	n := &g.cfg.Network
	if n.None {
		return nil
	}
	if !until(linkWait, func() bool { _, err := os.Stat("/sys/class/net/" + device); return err == nil }) {
		g.log.warnf("the machine has no network interface %s", device)
		return nil
	}
	if n.Address == "" {
		if err := g.startDHCP(); err != nil {
			g.log.warnf("%v", err)
		}
		return nil
	}
	a, err := staticAddress(n.Address, n.Gateway)
	if err != nil {
		return err
	}
	if err := a.apply(); err != nil {
		g.log.warnf("%v", err)
	}
	return nil
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

// apply makes eth0 have this address and no other of its family.
func (a address) apply() error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("finding %s: %w", device, err)
	}
	if a.mtu > 0 {
		if err := netlink.LinkSetMTU(link, a.mtu); err != nil {
			return fmt.Errorf("setting the MTU of %s to %d: %w", device, a.mtu, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", device, err)
	}
	want := &netlink.Addr{IPNet: ipNet(a.prefix)}
	if a.prefix.Addr().Is6() {
		want.Flags = unix.IFA_F_NODAD // the address is usable at once
	}
	if err := netlink.AddrReplace(link, want); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", device, a.prefix, err)
	}
	if err := dropOthers(link, want, a.prefix.Addr()); err != nil {
		return err
	}
	for _, r := range append(a.routes, route{netip.Prefix{}, a.gateway}) {
		if err := a.addRoute(link, r); err != nil {
			return err
		}
	}
	return nil
}

// dropOthers removes the addresses that an earlier lease left.
func dropOthers(link netlink.Link, keep *netlink.Addr, addr netip.Addr) error {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		return nil // link-local and autoconfigured ones are none of ours
	}
	have, err := netlink.AddrList(link, family)
	if err != nil {
		return fmt.Errorf("listing the addresses of %s: %w", device, err)
	}
	for _, old := range have {
		if old.IPNet.String() == keep.IPNet.String() {
			continue
		}
		if err := netlink.AddrDel(link, &old); err != nil {
			return fmt.Errorf("removing the address %s: %w", old.IPNet, err)
		}
	}
	return nil
}

// addRoute adds r; the zero prefix is the default route.
func (a address) addRoute(link netlink.Link, r route) error {
	nl := &netlink.Route{LinkIndex: link.Attrs().Index}
	if r.to.IsValid() {
		nl.Dst = ipNet(r.to)
	} else if !r.gateway.IsValid() {
		return nil
	}
	if r.gateway.IsValid() && !r.gateway.IsUnspecified() {
		nl.Gw = r.gateway.AsSlice()
		if !a.prefix.Contains(r.gateway) {
			nl.SetFlag(netlink.FLAG_ONLINK) // clouds give /32 addresses
		}
	} else {
		nl.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteReplace(nl); err != nil {
		return fmt.Errorf("adding the route by %s: %w", r.gateway, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
