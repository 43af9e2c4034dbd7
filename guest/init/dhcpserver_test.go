//go:build linux && e2e

package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// wire is the network of a machine as QEMU's "socket" backend gives it: each
// Ethernet frame after four bytes of length. To a DHCP server it is the
// connection on which requests come.
type wire struct {
	net.Conn
	mac net.HardwareAddr // of the last that asked
}

// The server, on the machine's network.
var (
	serverIP  = net.IPv4(192, 0, 2, 1).To4()
	serverMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

const ethernetHead, ipHead, udpHead = 14, 20, 8

// ReadFrom returns the next UDP datagram to a DHCP server's port.
func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		var size [4]byte
		if _, err := io.ReadFull(w, size[:]); err != nil {
			return 0, nil, err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > 1<<16 {
			return 0, nil, errors.New("no frame is so long")
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(w, frame); err != nil {
			return 0, nil, err
		}
		if n < ethernetHead+ipHead+udpHead || binary.BigEndian.Uint16(frame[12:]) != 0x0800 {
			continue // ARP, IPv6
		}
		w.mac = net.HardwareAddr(frame[6:12])
		packet := frame[ethernetHead:]
		udp := packet[int(packet[0]&15)*4:]
		if packet[9] != 17 || binary.BigEndian.Uint16(udp[2:]) != dhcpv4.ServerPort {
			continue
		}
		return copy(b, udp[udpHead:binary.BigEndian.Uint16(udp[4:])]), &net.UDPAddr{IP: net.IP(packet[12:16]), Port: dhcpv4.ClientPort}, nil
	}
}

// WriteTo sends a datagram to the machine's DHCP client.
func (w *wire) WriteTo(b []byte, _ net.Addr) (int, error) {
	udp := binary.BigEndian.AppendUint16(nil, dhcpv4.ServerPort)
	udp = binary.BigEndian.AppendUint16(udp, dhcpv4.ClientPort)
	udp = binary.BigEndian.AppendUint16(udp, uint16(udpHead+len(b)))
	udp = append(append(udp, 0, 0), b...) // no checksum
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], uint16(ipHead+len(udp)))
	ip = append(append(ip, serverIP...), 255, 255, 255, 255)
	var sum uint32
	for i := 0; i < ipHead; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	frame := binary.BigEndian.AppendUint32(nil, uint32(ethernetHead+len(ip)+len(udp)))
	frame = append(append(append(frame, w.mac...), serverMAC...), 8, 0)
	_, err := w.Conn.Write(append(append(frame, ip...), udp...))
	return len(b), err
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dhcpServer{address: l.Addr().String(), policy: p, asked: make(chan *dhcpv4.DHCPv4, 1000)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		server, err := server4.NewServer("", nil, s.answer, server4.WithConn(&wire{Conn: conn}))
		if err == nil {
			_ = server.Serve() // until the machine's end
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
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
