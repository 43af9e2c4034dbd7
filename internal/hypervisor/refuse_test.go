package hypervisor

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"capstan/guest/api"
)

// limited is a driver that cannot do much. It is only asked what it can.
type limited struct{ can Capabilities }

func (limited) Name() string                                  { return "limited" }
func (l limited) Capabilities() Capabilities                  { return l.can }
func (limited) Check(context.Context) error                   { return errors.ErrUnsupported }
func (limited) Start(context.Context, *Spec) (Machine, error) { return nil, errors.ErrUnsupported }

func TestRefuse(t *testing.T) {
	all := Capabilities{Ports: true, Shares: true, UDP: true, IPv6: true, Bridges: true, CPUs: 2, Disk: "vdi", Accels: []string{"fast"}, Firmware: []Firmware{BIOS}}
	port := func(host, protocol string) []Port {
		return []Port{{Host: netip.MustParseAddr(host), HostPort: 1, Guest: 2, Protocol: protocol}}
	}
	for _, tt := range []struct {
		name string
		less func(*Capabilities)
		spec Spec
		want string
	}{
		{"forwards to elsewhere", func(c *Capabilities) { c.Ports, c.Away = false, true }, Spec{Ports: port("127.0.0.1", "tcp")}, "the limited driver cannot forward ports of this host: the machine has an address of its own"},
		{"input", func(c *Capabilities) { c.Away = true }, Spec{Guest: api.Config{Stdin: true}}, "the limited driver cannot connect standard input"},
		{"no network", func(c *Capabilities) { c.Cloud = true }, Spec{Guest: api.Config{Network: api.Network{None: true}}}, "the limited driver cannot run a machine without a network: by it the machine is told what to run"},
		{"no writes", func(c *Capabilities) { c.Cloud = true }, Spec{Guest: api.Config{Root: api.Root{ReadOnly: true}}}, "the limited driver cannot mount the root without any place to write: the image's disk has one"},
		{"ports", func(c *Capabilities) { c.Ports = false }, Spec{Ports: port("127.0.0.1", "tcp")}, "the limited driver cannot forward ports of this host"},
		{"UDP", func(c *Capabilities) { c.UDP = false }, Spec{Ports: port("127.0.0.1", "udp")}, "the limited driver cannot forward UDP, as 127.0.0.1:1->2/udp asks"},
		{"IPv6", func(c *Capabilities) { c.IPv6 = false }, Spec{Ports: port("::1", "tcp")}, "the limited driver cannot forward from the IPv6 address ::1"},
		{"shares", func(c *Capabilities) { c.Shares = false }, Spec{Shares: []Share{{Tag: "x"}}}, "the limited driver cannot share directories of this host"},
		{"CPUs", func(c *Capabilities) { c.CPUs = 1 }, Spec{CPUs: 2}, "the limited driver cannot give a machine 2 CPUs"},
		{"bridges", func(c *Capabilities) { c.Bridges = false }, Spec{Bridge: "eth0"}, "the limited driver cannot put a machine into the network of the interface eth0"},
		{"memory", func(c *Capabilities) { c.Memory = 2 << 20 }, Spec{Memory: 1 << 20}, "the limited driver cannot run a machine with 1 MiB of memory"},
		{"a disk that boots", func(c *Capabilities) { c.Disk = "" }, Spec{Bootable: "disk"}, "the limited driver cannot boot a disk that holds the guest"},
		{"firmware", func(c *Capabilities) { c.Firmware = nil }, Spec{System: &System{Firmware: BIOS}}, "the limited driver cannot boot a disk by BIOS"},
		{"accelerators", func(c *Capabilities) { c.Accels = []string{"slow"} }, Spec{Accel: "fast"}, `the limited driver cannot accelerate a machine by "fast"`},
		{"acceleration", func(c *Capabilities) { c.Accels = nil }, Spec{Accel: "fast"}, "the limited driver cannot be told how to accelerate a machine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Refuse(limited{all}, &tt.spec); err != nil {
				t.Errorf("a driver that can: %v", err)
			}
			less := all
			tt.less(&less)
			err := Refuse(limited{less}, &tt.spec)
			var cannot *CannotError
			if !errors.As(err, &cannot) || err.Error() != tt.want || cannot.Hint() == "" {
				t.Errorf("a driver that cannot: %v; want %s, and a way out", err, tt.want)
			}
		})
	}
}
