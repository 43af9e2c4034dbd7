//go:build linux

package vsphere_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/vsphere"
	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// large is a vCenter with more than one of everything.
func large(t *testing.T) *vspheretest.Server {
	return vspheretest.Start(t, vspheretest.Options{Tools: address, VCenter: true, Model: func(m *simulator.Model) {
		m.Datacenter, m.Cluster, m.Datastore, m.Pool = 2, 2, 2, 1
	}})
}

// placed makes a machine where the options say, and returns its handles.
func placed(t *testing.T, o vsphere.Options) (handles []hypervisor.Handle, err error) {
	t.Helper()
	d := vsphere.New(o)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	err = d.Create(t.Context(), &hypervisor.RemoteSpec{
		ID: "0123456789ab", Name: "placed", Memory: 256 << 20, CPUs: 1, Disk: empty,
	}, func(h hypervisor.Handle) error {
		handles = append(handles, slices.Clone(h))
		return nil
	})
	return handles, err
}

// TestChoices: where there is more than one of a kind, the error lists them,
// and a name that is none of theirs does no less.
func TestChoices(t *testing.T) {
	s := large(t)
	o := optionsOf(s)
	for _, step := range []struct {
		variable string
		to       *string
		choice   string
		choices  []string
	}{
		{"GOVC_DATACENTER", &o.Datacenter, "DC1", []string{"/DC0", "/DC1"}},
		{"GOVC_CLUSTER", &o.Cluster, "DC1_C1", []string{"/DC1/host/DC1_C0", "/DC1/host/DC1_C1", "/DC1/host/DC1_H0"}},
		{"GOVC_DATASTORE", &o.Datastore, "LocalDS_1", []string{"/DC1/datastore/LocalDS_0", "/DC1/datastore/LocalDS_1"}},
		{"GOVC_NETWORK", &o.Network, "DC1_DVPG0", []string{"/DC1/network/VM Network", "/DC1/network/DC1_DVPG0"}},
	} {
		for given, problem := range map[string]string{"": "there is more than one ", "nope": "there is no "} {
			*step.to = given
			_, err := placed(t, o)
			var told *hypervisor.RemoteError
			if !errors.As(err, &told) || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%s=%s: %v", step.variable, given, err)
			}
			listed, ok := strings.CutPrefix(told.Hint(), step.variable+"=NAME, of ")
			got := strings.Split(listed, ", ")
			slices.Sort(got)
			slices.Sort(step.choices)
			if !ok || !slices.Equal(got, step.choices) {
				t.Errorf("%s=%s: the choices are %q; want %q", step.variable, given, told.Hint(), step.choices)
			}
		}
		*step.to = step.choice
	}
	if left := s.Left(t.Context()); len(left) > 0 {
		t.Errorf("left on the server: %q", left)
	}
	for variable, to := range map[string]*string{"GOVC_HOST": &o.Host, "GOVC_RESOURCE_POOL": &o.ResourcePool, "GOVC_FOLDER": &o.Folder} {
		*to = "nope"
		_, err := placed(t, o)
		var told *hypervisor.RemoteError
		if !errors.As(err, &told) || !strings.Contains(err.Error(), "nope") || !strings.HasPrefix(told.Hint(), variable+"=NAME, of /DC1/") {
			t.Errorf("%s=nope: %v", variable, err)
		}
		*to = ""
	}
}

// TestPlace: a machine is made where the options say.
func TestPlace(t *testing.T) {
	s := large(t)
	in := func(change func(*vsphere.Options)) vsphere.Options {
		o := optionsOf(s)
		o.Datacenter, o.Datastore, o.Network = "DC1", "LocalDS_1", "VM Network"
		change(&o)
		return o
	}
	for name, tt := range map[string]struct {
		options          vsphere.Options
		pool, host, path string // as they end; "" is any
	}{
		"cluster":          {in(func(o *vsphere.Options) { o.Cluster = "DC1_C1" }), "/DC1_C1/Resources", "", "/DC1/vm/"},
		"lone host":        {in(func(o *vsphere.Options) { o.Host = "DC1_H0" }), "/DC1_H0/Resources", "/DC1_H0", "/DC1/vm/"},
		"host of cluster":  {in(func(o *vsphere.Options) { o.Cluster, o.Host = "DC1_C0", "DC1_C0_H2" }), "/DC1_C0/Resources", "/DC1_C0_H2", "/DC1/vm/"},
		"pool":             {in(func(o *vsphere.Options) { o.ResourcePool = "DC1_C1_RP1" }), "/DC1_C1/Resources/DC1_C1_RP1", "", "/DC1/vm/"},
		"folder":           {in(func(o *vsphere.Options) { o.Cluster, o.Folder = "DC1_C0", "apps" }), "/DC1_C0/Resources", "", "/DC1/vm/apps/"},
		"paths":            {in(func(o *vsphere.Options) { o.Cluster, o.Datastore = "/DC1/host/DC1_C0", "/DC1/datastore/LocalDS_1" }), "/DC1_C0/Resources", "", "/DC1/vm/"},
		"distributed port": {in(func(o *vsphere.Options) { o.Cluster, o.Network = "DC1_C0", "DC1_DVPG0" }), "/DC1_C0/Resources", "", "/DC1/vm/"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.options.Folder != "" {
				makeFolder(t, s, "DC1", tt.options.Folder)
			}
			handles, err := placed(t, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			pool, host, store, network, path := whereIs(t, s)
			if !strings.HasSuffix(pool, tt.pool) || !strings.HasSuffix(host, tt.host) || !strings.HasPrefix(path, tt.path) ||
				store != "LocalDS_1" || network != tt.options.Network {
				t.Errorf("it is in the pool %s on %s, at %s, on %s, in %s", pool, host, path, store, network)
			}
			d := vsphere.New(tt.options)
			defer d.Close()
			if err := d.Remove(t.Context(), handles[0]); err != nil {
				t.Error(err)
			}
			if left := s.Left(t.Context()); len(left) > 0 {
				t.Errorf("left on the server: %q", left)
			}
		})
	}
}

// TestNoNetwork: a machine without a network has no card, and nothing has to be
// chosen for it.
func TestNoNetwork(t *testing.T) {
	s := large(t)
	o := optionsOf(s)
	o.Datacenter, o.Datastore, o.Cluster = "DC1", "LocalDS_1", "DC1_C0"
	d := vsphere.New(o)
	defer d.Close()
	spec := &hypervisor.RemoteSpec{ID: "0123456789ab", Name: "alone", Memory: 256 << 20, CPUs: 1, Disk: empty}
	spec.Guest.Network.None = true
	var last hypervisor.Handle
	if err := d.Create(t.Context(), spec, func(h hypervisor.Handle) error { last = slices.Clone(h); return nil }); err != nil {
		t.Fatal(err)
	}
	c := s.Client(t.Context())
	defer c.Logout(t.Context())
	vm, err := find.NewFinder(c.Client).VirtualMachine(t.Context(), "/...")
	if err != nil {
		t.Fatal(err)
	}
	devices, err := vm.Device(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cards := devices.SelectByType((*types.VirtualEthernetCard)(nil)); len(cards) > 0 {
		t.Errorf("its cards are %v", cards)
	}
	if disks := devices.SelectByType((*types.VirtualDisk)(nil)); len(disks) != 1 {
		t.Errorf("its disks are %v", disks)
	}
	if err := d.Remove(t.Context(), last); err != nil {
		t.Error(err)
	}
}

// empty is a disk with nothing on it.
func empty(api.Config) (hypervisor.BootDisk, error) {
	return hypervisor.BootDisk{Size: 4 << 20, Write: func(context.Context, io.WriterAt) error { return nil }}, nil
}

func makeFolder(t *testing.T, s *vspheretest.Server, datacenter, name string) {
	t.Helper()
	c := s.Client(t.Context())
	defer c.Logout(t.Context())
	f, err := find.NewFinder(c.Client).Folder(t.Context(), "/"+datacenter+"/vm")
	if err == nil {
		_, err = f.CreateFolder(t.Context(), name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// whereIs tells where the only machine there is was made: the paths of its
// pool, of its host and of itself, and the names of its datastore and network.
func whereIs(t *testing.T, s *vspheretest.Server) (pool, host, store, network, path string) {
	t.Helper()
	ctx := t.Context()
	c := s.Client(ctx)
	defer c.Logout(ctx)
	vm, err := find.NewFinder(c.Client).VirtualMachine(ctx, "/...")
	if err != nil {
		t.Fatal(err)
	}
	var seen mo.VirtualMachine
	err = property.DefaultCollector(c.Client).RetrieveOne(ctx, vm.Reference(), []string{"resourcePool", "runtime.host", "datastore", "network"}, &seen)
	if err != nil || len(seen.Datastore) != 1 || len(seen.Network) != 1 {
		t.Fatalf("it is %+v, %v", seen, err)
	}
	if pool, err = find.InventoryPath(ctx, c.Client, *seen.ResourcePool); err == nil && seen.Runtime.Host != nil {
		host, err = find.InventoryPath(ctx, c.Client, *seen.Runtime.Host)
	}
	if err == nil {
		store, err = object.NewCommon(c.Client, seen.Datastore[0]).ObjectName(ctx)
	}
	if err == nil {
		network, err = object.NewCommon(c.Client, seen.Network[0]).ObjectName(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pool, host, store, network, vm.InventoryPath
}
