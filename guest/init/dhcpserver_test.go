//go:build linux && e2e

package main

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// dhcpWire is a machine's network to a DHCP server: the connection on which
// requests come.
type dhcpWire struct {
	*wire
	mac net.HardwareAddr // of the last that asked
}

// The server, on the machine's network.
var serverIP = net.IPv4(192, 0, 2, 1).To4()

// ReadFrom returns the next datagram to a DHCP server's port.
func (w *dhcpWire) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		d, err := w.receive()
		if err != nil {
			return 0, nil, err
		}
		if d.to.Port() == dhcpv4.ServerPort {
			w.mac = d.mac
			return copy(b, d.body), &net.UDPAddr{IP: d.from.Addr().AsSlice(), Port: dhcpv4.ClientPort}, nil
		}
	}
}

// WriteTo sends a datagram to the machine's DHCP client, wherever that is.
func (w *dhcpWire) WriteTo(b []byte, _ net.Addr) (int, error) {
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(serverIP)), dhcpv4.ServerPort)
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpv4.ClientPort)
	return len(b), w.send(datagram{w.mac, from, to, b})
}

// policy is how a server answers.
type policy struct {
	silent, refuse bool
	address        net.IP
	lease          time.Duration
}

// dhcpServer is a server of one machine.
type dhcpServer struct {
	address string // where QEMU finds it
	asked   chan *dhcpv4.DHCPv4
	mu      sync.Mutex
	policy  policy
}

func newDHCPServer(t *testing.T, p policy) *dhcpServer {
	t.Helper()
	s := &dhcpServer{policy: p, asked: make(chan *dhcpv4.DHCPv4, 1000)}
	s.address = onWire(t, func(w *wire) {
		server, err := server4.NewServer("", nil, s.answer, server4.WithConn(&dhcpWire{wire: w}))
		if err == nil {
			_ = server.Serve() // until the machine's end
		}
	})
	return s
}

func (s *dhcpServer) set(p policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = p
}

func (s *dhcpServer) answer(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
	s.mu.Lock()
	p := s.policy
	s.mu.Unlock()
	if !p.silent {
		options := []dhcpv4.Modifier{
			dhcpv4.WithYourIP(p.address), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithServerIP(serverIP), dhcpv4.WithRouter(serverIP), dhcpv4.WithDNS(serverIP),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverIP)), dhcpv4.WithLeaseTime(uint32(p.lease / time.Second)),
		}
		kind := dhcpv4.MessageTypeOffer
		switch {
		case m.MessageType() != dhcpv4.MessageTypeRequest:
		case p.refuse:
			kind = dhcpv4.MessageTypeNak
		default:
			kind = dhcpv4.MessageTypeAck
		}
		if answer, err := dhcpv4.NewReplyFromRequest(m, append(options, dhcpv4.WithMessageType(kind))...); err == nil {
			_, _ = conn.WriteTo(answer.ToBytes(), peer) // the machine may have ended
		}
	}
	s.asked <- m
}

// await waits for a message of the machine's that is as wanted.
func (s *dhcpServer) await(t *testing.T, what string, wanted func(*dhcpv4.DHCPv4) bool) {
	t.Helper()
	for limit := time.After(bootLimit); ; {
		select {
		case m := <-s.asked:
			if wanted(m) {
				return
			}
		case <-limit:
			t.Fatalf("no %s", what)
		}
	}
}

func discover(m *dhcpv4.DHCPv4) bool { return m.MessageType() == dhcpv4.MessageTypeDiscover }

// renewal is a request by a machine that has that address.
func renewal(address net.IP) func(*dhcpv4.DHCPv4) bool {
	return func(m *dhcpv4.DHCPv4) bool {
		return m.MessageType() == dhcpv4.MessageTypeRequest && m.ClientIPAddr.Equal(address)
	}
}
