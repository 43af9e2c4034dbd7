//go:build linux

package vsphere_test

import (
	"net/netip"
	"testing"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
	"capstan/internal/hypervisor/vsphere"
	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// address is what the servers know of their machines.
const address = "192.0.2.7"

// optionsOf log in to a server.
func optionsOf(s *vspheretest.Server) vsphere.Options {
	return vsphere.Options{URL: s.URL, Username: vspheretest.User, Password: vspheretest.Password, CACerts: s.CAFile}
}

// TestRemote: the driver is what the interface says, on an ESXi and in a
// vCenter.
func TestRemote(t *testing.T) {
	t.Run("ESXi", func(t *testing.T) {
		s := vspheretest.Start(t, vspheretest.Options{Tools: address})
		conform(t, s, optionsOf(s))
	})
	t.Run("vCenter", func(t *testing.T) {
		s := vspheretest.Start(t, vspheretest.Options{Tools: address, VCenter: true})
		o := optionsOf(s)
		o.Cluster, o.Network = "DC0_C0", "VM Network"
		conform(t, s, o)
	})
}

func conform(t *testing.T, s *vspheretest.Server, o vsphere.Options) {
	away := o
	away.URL = "https://127.0.0.1:1/sdk" // nobody listens there
	remotetest.Run(t, remotetest.Platform{
		Driver:      func(*testing.T) hypervisor.Remote { return vsphere.New(o) },
		Unreachable: func(*testing.T) hypervisor.Remote { return vsphere.New(away) },
		Left:        func(t *testing.T) []string { return s.Left(t.Context()) },
		Address:     netip.MustParseAddr(address),
		Secret:      vspheretest.Password,
	})
}
