package vbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"capstan/internal/hypervisor"
)

// choosePorts completes forwards, and finds free ports for those that ask for
// any: VirtualBox knows no such forwards.
func choosePorts(asked []hypervisor.Port) ([]hypervisor.Port, error) {
	ports := slices.Clone(asked)
	var held []io.Closer // until all are chosen, so that none is chosen twice
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for i := range ports {
		p := &ports[i]
		if !p.Host.IsValid() {
			p.Host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		p.Host = p.Host.Unmap()
		if p.Protocol == "" {
			p.Protocol = "tcp"
		}
		switch {
		case p.Protocol != "tcp" && p.Protocol != "udp":
			return nil, fmt.Errorf("port %s: the protocol is neither tcp nor udp", p)
		case !p.Host.Is4():
			return nil, fmt.Errorf("port %s: VirtualBox forwards from IPv4 addresses only", p)
		case p.Guest == 0:
			return nil, fmt.Errorf("port %s: 0 is no port of the guest", p)
		}
	}
	// Those that must be first: else one of them might be chosen as any.
	for _, fixed := range []bool{true, false} {
		for i := range ports {
			if (asked[i].HostPort != 0) != fixed {
				continue
			}
			c, port, err := bind(ports[i])
			if err != nil {
				return nil, portError(ports[i], err)
			}
			held = append(held, c)
			ports[i].HostPort = port
		}
	}
	return ports, nil
}

// checkPorts tells whether all ports can be had.
func checkPorts(ports []hypervisor.Port) error {
	for _, p := range ports {
		c, _, err := bind(p)
		if err != nil {
			return portError(p, err)
		}
		c.Close()
	}
	return nil
}

// forwardTimeout bounds the wait for VirtualBox to take a machine's ports, which
// it has done by the time that it calls the machine started, or soon after.
const forwardTimeout = 10 * time.Second

// awaitForwards returns once VirtualBox has all ports: of those that it could
// not take it tells nobody.
func awaitForwards(ctx context.Context, ports []hypervisor.Port) error {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	for _, p := range ports {
		for {
			c, _, err := bind(p)
			if err != nil {
				break
			}
			c.Close()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return portError(p, errors.New("VirtualBox has not taken it"))
			}
		}
	}
	return nil
}

// bind takes the host's end of a forward.
func bind(p hypervisor.Port) (io.Closer, uint16, error) {
	address := netip.AddrPortFrom(p.Host, p.HostPort)
	if p.Protocol == "udp" {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address))
		if err != nil {
			return nil, 0, err
		}
		return c, c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
	}
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(address))
	if err != nil {
		return nil, 0, err
	}
	return l, l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// portError is why a port cannot be had, and the way out.
func portError(p hypervisor.Port, err error) error {
	failed := &hypervisor.PortError{Port: p, Err: err, Remedy: "another host port, or 0 for any free one"}
	switch {
	case errors.Is(err, fs.ErrPermission):
		failed.Err, failed.Remedy = errors.New("this needs privileges"), "a host port above 1023"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		failed.Err, failed.Remedy = errors.New("this host does not have that address"), "127.0.0.1, or an address of this host's"
	case errors.Is(err, syscall.EADDRINUSE):
		failed.Err = hypervisor.ErrPortInUse
	}
	return failed
}
