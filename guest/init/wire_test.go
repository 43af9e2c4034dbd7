//go:build linux && e2e

package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
)

// wire is the network of a machine as QEMU's "socket" backend gives it: each
// Ethernet frame after four bytes of length.
type wire struct {
	net.Conn
	host netip.Addr // whose address the machine can learn by ARP
}

// datagram is one of UDP, from the machine or to it.
type datagram struct {
	mac      net.HardwareAddr // the machine's
	from, to netip.AddrPort
	body     []byte
}

// hostMAC is that of all who are on a wire beside the machine.
var hostMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}

const (
	ethernetHead, ipHead, udpHead = 14, 20, 8
	typeIP, typeARP               = 0x0800, 0x0806
	protocolUDP                   = 17
)

// onWire serves one machine's network, and returns where QEMU finds it. serve
// returns after the machine's end.
func onWire(t *testing.T, serve func(*wire)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		serve(&wire{Conn: conn})
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
	})
	return l.Addr().String()
}

// receive returns the next datagram that the machine sends.
func (w *wire) receive() (datagram, error) {
	for {
		var size [4]byte
		if _, err := io.ReadFull(w, size[:]); err != nil {
			return datagram{}, err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > 1<<16 {
			return datagram{}, errors.New("no frame is so long")
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(w, frame); err != nil {
			return datagram{}, err
		}
		if n < ethernetHead+ipHead+udpHead {
			continue
		}
		mac, packet := net.HardwareAddr(frame[6:12]), frame[ethernetHead:]
		switch binary.BigEndian.Uint16(frame[12:]) {
		case typeARP:
			if err := w.resolve(mac, packet); err != nil {
				return datagram{}, err
			}
		case typeIP:
			if udp := packet[int(packet[0]&15)*4:]; packet[9] == protocolUDP {
				return datagram{mac, endpoint(packet[12:], udp), endpoint(packet[16:], udp[2:]), udp[udpHead:binary.BigEndian.Uint16(udp[4:])]}, nil
			}
		}
	}
}

func endpoint(address, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(address[:4])), binary.BigEndian.Uint16(port))
}

// resolve answers a request for the host's address (RFC 826).
func (w *wire) resolve(mac net.HardwareAddr, arp []byte) error {
	const request, answer = 1, 2
	if binary.BigEndian.Uint16(arp[6:]) != request || netip.AddrFrom4([4]byte(arp[24:28])) != w.host {
		return nil
	}
	b := append(arp[:6:6], 0, answer)
	b = append(append(b, hostMAC...), w.host.AsSlice()...)
	b = append(append(b, mac...), arp[14:18]...) // whose request it was
	return w.transmit(mac, typeARP, b)
}

// send sends a datagram to the machine.
func (w *wire) send(d datagram) error {
	udp := binary.BigEndian.AppendUint16(nil, d.from.Port())
	udp = binary.BigEndian.AppendUint16(udp, d.to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(udpHead+len(d.body)))
	udp = append(append(udp, 0, 0), d.body...) // no checksum
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocolUDP, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], uint16(ipHead+len(udp)))
	ip = append(append(ip, d.from.Addr().AsSlice()...), d.to.Addr().AsSlice()...)
	var sum uint32
	for i := 0; i < ipHead; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	return w.transmit(d.mac, typeIP, append(ip, udp...))
}

func (w *wire) transmit(mac net.HardwareAddr, kind uint16, packet []byte) error {
	frame := binary.BigEndian.AppendUint32(nil, uint32(ethernetHead+len(packet)))
	frame = append(append(frame, mac...), hostMAC...)
	_, err := w.Write(append(binary.BigEndian.AppendUint16(frame, kind), packet...))
	return err
}
