//go:build linux

package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

const (
	// dhcpWait bounds the wait for the first lease; the search goes on
	// beside the application.
	dhcpWait = 15 * time.Second
	// dhcpRetry is between attempts after that.
	dhcpRetry = 30 * time.Second
	// minRenewal is the shortest time between renewals.
	minRenewal = 30 * time.Second
)

// startDHCP gets a lease, after the change up, and keeps it for as long as the
// machine runs.
func (g *guest) startDHCP(index int, up change) {
	if err := commit(up, linkUp(index, 0)); err != nil {
		g.log.warnf("%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dhcpWait)
	defer cancel()
	lease, err := g.lease(ctx, index, nil)
	if err != nil {
		g.log.warnf("asking DHCP for an address: %v", err)
	}
	go g.keepLease(index, lease) // ends with the machine
}

// lease asks for a lease, or to renew old, and applies what comes.
func (g *guest) lease(ctx context.Context, index int, old *nclient4.Lease) (*nclient4.Lease, error) {
	client, err := nclient4.New(device, nclient4.WithTimeout(time.Second), nclient4.WithRetry(int(dhcpWait/time.Second)))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	options := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptHostName(g.hostname())),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionInterfaceMTU, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionClasslessStaticRoute),
	}
	var lease *nclient4.Lease
	if old != nil {
		lease, err = client.Renew(ctx, old, options...)
	} else {
		lease, err = client.Request(ctx, options...)
	}
	if err != nil {
		return nil, err
	}
	a, err := leasedAddress(lease.ACK)
	if err != nil {
		return nil, err
	}
	if err := commit(a.changes(index, g.leased)...); err != nil {
		return nil, err
	}
	g.leased = a.prefix
	g.setResolver(a)
	return lease, nil
}

// leasedAddress reads a DHCP answer (RFC 2132, 3442).
func leasedAddress(ack *dhcpv4.DHCPv4) (address, error) {
	var a address
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || ip.IsUnspecified() {
		return a, errors.New("the DHCP server offered no address")
	}
	bits := 32
	if mask := ack.SubnetMask(); len(mask) == 4 {
		bits, _ = mask.Size() // 0 for a mask with holes
	}
	a.prefix = netip.PrefixFrom(ip, bits)
	if routers := ack.Router(); len(routers) > 0 {
		a.gateway, _ = netip.AddrFromSlice(routers[0].To4()) // of four bytes in a parsed answer
	}
	// A server that sends routes sends all of them (RFC 3442, page 5).
	for i, r := range ack.ClasslessStaticRoute() {
		if i == 0 {
			a.gateway = netip.Addr{}
		}
		dest, _ := netip.AddrFromSlice(r.Dest.IP.To4())
		ones, _ := r.Dest.Mask.Size()
		gateway, _ := netip.AddrFromSlice(r.Router.To4())
		if ones == 0 {
			a.gateway = gateway
			continue
		}
		a.routes = append(a.routes, hop{netip.PrefixFrom(dest, ones), gateway})
	}
	for _, ns := range ack.DNS() {
		a.nameservers = append(a.nameservers, ns.String())
	}
	if list := ack.DomainSearch(); list != nil {
		a.search = list.Labels
	} else if name := ack.DomainName(); name != "" {
		a.search = []string{name}
	}
	if mtu := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(mtu) == 2 {
		if n := int(mtu[0])<<8 | int(mtu[1]); n >= 576 {
			a.mtu = n
		}
	}
	return a, nil
}

// keepLease renews the lease for as long as the machine runs, and looks for
// a new one when it has run out.
func (g *guest) keepLease(index int, lease *nclient4.Lease) {
	for {
		wait := dhcpRetry
		if lease != nil {
			wait = renewIn(time.Since(lease.CreationTime), lease.ACK.IPAddressLeaseTime(time.Hour))
		}
		<-time.After(wait)
		if lease != nil && time.Since(lease.CreationTime) >= lease.ACK.IPAddressLeaseTime(time.Hour) {
			g.log.warnf("the DHCP lease has run out")
			lease = nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), dhcpWait)
		fresh, err := g.lease(ctx, index, lease)
		cancel()
		var refused *nclient4.ErrNak
		switch {
		case err == nil:
			lease = fresh
		case errors.As(err, &refused):
			lease = nil
		default:
			g.log.debugf("asking DHCP for an address: %v", err)
		}
	}
}

// renewIn returns how long to wait before the next attempt at renewing a
// lease of that age: until half of its time, then half of what is left
// (RFC 2131, 4.4.5).
func renewIn(age, lease time.Duration) time.Duration {
	wait := lease/2 - age
	if wait <= 0 {
		wait = (lease - age) / 2
	}
	return max(minRenewal, wait)
}
