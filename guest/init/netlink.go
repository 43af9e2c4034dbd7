//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// change is a message that changes the network (rtnetlink(7)), and what it
// does, for people.
type change struct {
	what string
	req  *nl.NetlinkRequest
}

// commit sends all changes to the kernel at once. The netlink package above
// nl would ask for all links before each change, over a socket of its own,
// which under TCG costs a start tens of milliseconds.
func commit(changes ...change) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("setting the network up: %w", err)
	}
	defer unix.Close(fd)
	var batch []byte
	for _, c := range changes {
		batch = append(batch, c.req.Serialize()...)
	}
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("setting the network up: %w", err)
	}
	// The kernel answers while it takes the batch: nothing is waited for.
	answers := make([]byte, 8192)
	for done := 0; done < len(changes); {
		n, _, err := unix.Recvfrom(fd, answers, unix.MSG_DONTWAIT)
		if err != nil {
			return fmt.Errorf("%s: %w", changes[done].what, err)
		}
		errnos, err := acknowledgements(answers[:n])
		if err != nil || len(errnos) == 0 || len(errnos) > len(changes)-done {
			return fmt.Errorf("%s: %w", changes[done].what, errors.Join(err, errors.New("the kernel's answer is not understood")))
		}
		for _, errno := range errnos {
			if errno != 0 {
				return fmt.Errorf("%s: %w", changes[done].what, errno)
			}
			done++
		}
	}
	return nil
}

// acknowledgements reads the kernel's answers: a header of 16 bytes and the
// negative error number each (netlink(7)).
func acknowledgements(b []byte) ([]unix.Errno, error) {
	var errnos []unix.Errno
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR || size < unix.SizeofNlMsghdr+4 || size > len(b) {
			return nil, errors.New("no acknowledgement")
		}
		errnos = append(errnos, unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:]))))
		b = b[min(len(b), (size+3)&^3):]
	}
	return errnos, nil
}

// linkUp sets an interface up, with an MTU unless that is 0.
func linkUp(index, mtu int) change {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	if mtu > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, uint32(mtu))))
	}
	return change{"setting the network interface up", req}
}

// linkIndex is an interface's number; 0 if there is none of that name.
func linkIndex(name string) int {
	index, err := strconv.Atoi(attribute("/sys/class/net", name, "ifindex"))
	if err != nil {
		return 0
	}
	return index
}

func addAddress(index int, p netip.Prefix) change {
	return change{"adding the address " + p.String(), addressRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, p)}
}

func removeAddress(index int, p netip.Prefix) change {
	return change{"removing the address " + p.String(), addressRequest(unix.RTM_DELADDR, 0, index, p)}
}

func addressRequest(kind, flags, index int, p netip.Prefix) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_ACK|flags)
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index, msg.Prefixlen = uint32(index), uint8(p.Bits())
	if p.Addr().Is6() {
		msg.Flags = unix.IFA_F_NODAD // the address is usable at once
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice()))
	if b, ok := broadcast(p); ok {
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, b.AsSlice()))
	}
	return req
}

// addRoute adds r to an interface that has the address on; without a prefix
// it is the default route.
func addRoute(index int, on netip.Prefix, r hop) change {
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	msg := nl.NewRtMsg()
	msg.Family = uint8(family(r.gateway))
	msg.Dst_len = uint8(max(r.to.Bits(), 0))
	direct := r.gateway.IsUnspecified()
	if direct {
		msg.Scope = unix.RT_SCOPE_LINK
	} else if !on.Contains(r.gateway) {
		msg.Flags |= unix.RTNH_F_ONLINK // clouds give /32 addresses
	}
	req.AddData(msg)
	if r.to.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_DST, r.to.Masked().Addr().AsSlice()))
	}
	if !direct {
		req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.gateway.AsSlice()))
	}
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index))))
	return change{"adding the route by " + r.gateway.String(), req}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// broadcast returns the broadcast address of an IPv4 network that has one.
func broadcast(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}, false
	}
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b), true
}
