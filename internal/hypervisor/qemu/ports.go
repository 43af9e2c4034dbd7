package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"

	"capstan/internal/hypervisor"
)

// takenPorts returns the forwards with the ports that the host's kernel chose
// for those that asked for any. Only QEMU knows them, and tells them only in
// its monitor's human form.
func takenPorts(mon qmp.Monitor, asked []hypervisor.Port) ([]hypervisor.Port, error) {
	if !slices.ContainsFunc(asked, func(p hypervisor.Port) bool { return p.HostPort == 0 }) {
		return asked, nil
	}
	table, err := raw.NewMonitor(mon).HumanMonitorCommand("info usernet", nil)
	if err != nil {
		return nil, fmt.Errorf("asking QEMU for its ports: %w", err)
	}
	forwards := parseForwards(table)
	taken := slices.Clone(asked)
	claim := func(p *hypervisor.Port) bool {
		i := slices.IndexFunc(forwards, func(f hypervisor.Port) bool {
			return f.Protocol == p.Protocol && f.Host == p.Host && f.Guest == p.Guest &&
				(p.HostPort == 0 || f.HostPort == p.HostPort)
		})
		if i >= 0 {
			p.HostPort = forwards[i].HostPort
			forwards = slices.Delete(forwards, i, i+1)
		}
		return i >= 0
	}
	for _, fixed := range []bool{true, false} {
		for i := range taken {
			if (taken[i].HostPort != 0) == fixed && !claim(&taken[i]) {
				return nil, fmt.Errorf("QEMU does not say which port it took for %s", taken[i])
			}
		}
	}
	return taken, nil
}

// parseForwards reads the lines of "info usernet" that are forwards:
//
//	Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
//	TCP[HOST_FORWARD]  11       127.0.0.1 38237       10.0.2.15    80     0     0
func parseForwards(table string) []hypervisor.Port {
	var forwards []hypervisor.Port
	lines := bufio.NewScanner(strings.NewReader(table))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue
		}
		protocol, ok := strings.CutSuffix(fields[0], "[HOST_FORWARD]")
		if !ok {
			continue
		}
		if fields[2] == "*" {
			fields[2] = "0.0.0.0"
		}
		host, err := netip.ParseAddrPort(fields[2] + ":" + fields[3])
		guest, guestErr := strconv.ParseUint(fields[5], 10, 16)
		if err != nil || guestErr != nil {
			continue
		}
		forwards = append(forwards, hypervisor.Port{
			Host: host.Addr(), HostPort: host.Port(), Guest: uint16(guest), Protocol: strings.ToLower(protocol),
		})
	}
	return forwards
}

// explainForward finds out why QEMU could not take a port, which it does not
// say: it names the rule only.
func explainForward(line string, ports []hypervisor.Port) error {
	for _, p := range ports {
		rule := fmt.Sprintf("%s:%s:%d-", p.Protocol, p.Host, p.HostPort)
		if strings.Contains(line, "'"+rule) {
			err, remedy := bindError(p)
			return &hypervisor.PortError{Port: p, Err: err, Remedy: remedy}
		}
	}
	return fmt.Errorf("publishing ports: %s", line)
}

// bindError is why the port of a forward cannot be bound, and the way out.
// Where it can be by now, it was in use a moment ago; so it was where one spec
// asks for it twice.
func bindError(p hypervisor.Port) (err error, remedy string) {
	address := netip.AddrPortFrom(p.Host, p.HostPort)
	if p.Protocol == "udp" {
		var c *net.UDPConn
		if c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address)); err == nil {
			c.Close()
		}
	} else {
		var l *net.TCPListener
		if l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(address)); err == nil {
			l.Close()
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return errors.New("this needs privileges"), "a host port above 1023"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return errors.New("this host does not have that address"), "127.0.0.1, or an address of this host's"
	}
	return hypervisor.ErrPortInUse, "another host port, or 0 for any free one"
}
