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
	// minRenewal is the shortest time between attempts at renewing a lease.
	minRenewal = 30 * time.Second
	// minLease is how long any lease lasts, whatever the server says: one of
	// no time would be asked for without end.
	minLease = 2 * time.Second
)

// startDHCP gets a lease, after the change up; keep keeps it for as long as
// the machine runs.
func (g *guest) startDHCP(index int, up change) (keep func()) {
	if err := commit(up, linkUp(index, 0)); err != nil {
		g.log.warnf("%v", err)
		return func() {}
	}
	// The client polls for a random number, without end and without a pause.
	ready := seeded()
	select {
	case <-ready:
	case <-time.After(seedWait):
		g.log.warnf("the machine has no source of random numbers yet, such as RDRAND or virtio-rng: it goes on without an address")
		go func() {
			<-ready
			g.keepLease(index, nil)
		}()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dhcpWait)
	defer cancel()
	lease, err := g.lease(ctx, index, nil)
	if err != nil {
		g.log.warnf("asking DHCP for an address: %v", err)
	}
	return func() { g.keepLease(index, lease) }
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

// keepLease keeps a lease for as long as the machine runs; nil looks for one.
func (g *guest) keepLease(index int, lease *nclient4.Lease) {
	wait := dhcpRetry
	if lease != nil {
		wait = renewIn(leaseTimes(lease))
	}
	for {
		<-time.After(wait)
		lease, wait = g.renew(index, lease)
	}
}

// renew makes one attempt at renewing old, or at finding a lease where that
// is nil. It returns the lease that is now in force and how long to wait
// before the next attempt.
func (g *guest) renew(index int, old *nclient4.Lease) (*nclient4.Lease, time.Duration) {
	limit := dhcpWait
	if old != nil {
		age, _, whole := leaseTimes(old)
		limit = min(limit, whole-age)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	fresh, err := g.lease(ctx, index, old)
	if err == nil {
		return fresh, renewIn(leaseTimes(fresh))
	}
	g.log.debugf("asking DHCP for an address: %v", err)
	if old == nil {
		return nil, dhcpRetry
	}
	var refused *nclient4.ErrNak
	if age, renewal, whole := leaseTimes(old); age < whole && !errors.As(err, &refused) {
		return old, renewIn(age, renewal, whole)
	}
	// The address may be another machine's from now on (RFC 2131, 4.4.5).
	g.log.warnf("the DHCP lease of %s has ended", g.leased)
	if err := commit(removeAddress(index, g.leased)); err != nil {
		g.log.warnf("%v", err)
	}
	g.leased = netip.Prefix{}
	return nil, 0
}

// leaseTimes are how old a lease is, at what age it is to be renewed, and at
// what age it ends.
func leaseTimes(l *nclient4.Lease) (age, renewal, whole time.Duration) {
	whole = max(minLease, l.ACK.IPAddressLeaseTime(time.Hour))
	return time.Since(l.CreationTime), l.ACK.IPAddressRenewalTime(whole / 2), whole
}

// renewIn returns how long to wait before the next attempt at renewing a
// lease: until the time for it, then half of what is left (RFC 2131, 4.4.5).
func renewIn(age, renewal, whole time.Duration) time.Duration {
	wait := renewal - age
	if wait <= 0 {
		wait = max(minRenewal, (whole-age)/2)
	}
	return max(0, min(wait, whole-age))
}
