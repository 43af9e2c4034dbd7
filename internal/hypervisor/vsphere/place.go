package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/internal/hypervisor"
)

// place is where a machine is made.
type place struct {
	datacenter *object.Datacenter
	folder     *object.Folder
	pool       *object.ResourcePool
	host       *object.HostSystem // nil: any of the pool's
	datastore  *object.Datastore
	network    object.NetworkReference // nil: none
}

// place finds where the options say that machines are made. Where they do not
// say, there has to be one choice only, as on a lone ESXi.
func (s *session) place(ctx context.Context, networked bool) (place, error) {
	var p place
	var err error
	o, f := s.options, s.finder()
	if p.datacenter, err = choose(ctx, s, "datacenter", "GOVC_DATACENTER", o.Datacenter, f.DatacenterList); err != nil {
		return p, err
	}
	f.SetDatacenter(p.datacenter)
	if err := s.findPool(ctx, f, &p); err != nil {
		return p, err
	}
	if p.datastore, err = choose(ctx, s, "datastore", "GOVC_DATASTORE", o.Datastore, f.DatastoreList); err != nil {
		return p, err
	}
	if networked {
		networks := func(ctx context.Context, path string) ([]object.NetworkReference, error) {
			all, err := f.NetworkList(ctx, path)
			return machineNetworks(all), err
		}
		if p.network, err = choose(ctx, s, "network", "GOVC_NETWORK", o.Network, networks); err != nil {
			return p, err
		}
	}
	if o.Folder != "" {
		p.folder, err = choose(ctx, s, "folder", "GOVC_FOLDER", o.Folder, f.FolderList)
		return p, err
	}
	folders, err := p.datacenter.Folders(ctx)
	if err != nil {
		return p, explain(s.host, "looking for the folder", err)
	}
	p.folder = folders.VmFolder
	return p, nil
}

// findPool finds what the machine runs in: a pool that is named, a cluster's,
// a host's, or the only one's.
func (s *session) findPool(ctx context.Context, f *find.Finder, p *place) error {
	var err error
	o := s.options
	if o.Host != "" {
		if p.host, err = choose(ctx, s, "host", "GOVC_HOST", o.Host, f.HostSystemList); err != nil {
			return err
		}
	}
	switch {
	case o.ResourcePool != "":
		p.pool, err = choose(ctx, s, "resource pool", "GOVC_RESOURCE_POOL", o.ResourcePool, f.ResourcePoolListAll)
		return err
	case o.Cluster == "" && p.host != nil:
		p.pool, err = p.host.ResourcePool(ctx)
		return explain(s.host, "looking for the host's resource pool", err)
	}
	compute, err := choose(ctx, s, "cluster or host", "GOVC_CLUSTER", o.Cluster, f.ComputeResourceList)
	if err != nil {
		return err
	}
	p.pool, err = compute.ResourcePool(ctx)
	return explain(s.host, "looking for the resource pool", err)
}

// machineNetworks are those that a machine can be in: a switch is none, nor is
// its uplink.
func machineNetworks(all []object.NetworkReference) []object.NetworkReference {
	var fit []object.NetworkReference
	for _, n := range all {
		if n.Reference().Type == "DistributedVirtualSwitch" || n.Reference().Type == "VmwareDistributedVirtualSwitch" || strings.Contains(pathOf(n), "-DVUplinks-") {
			continue
		}
		fit = append(fit, n)
	}
	return fit
}

// choose finds the one thing of a kind that has the given name, or the only
// one there is.
func choose[T object.Reference](ctx context.Context, s *session, kind, variable, given string, list func(context.Context, string) ([]T, error)) (T, error) {
	var none T
	pattern := given
	if pattern == "" {
		pattern = "*"
	}
	found, err := list(ctx, pattern)
	if missing := new(find.NotFoundError); err != nil && !errors.As(err, &missing) {
		return none, explain(s.host, "looking for a "+kind, err)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	choices := found
	problem := fmt.Sprintf("there is more than one %s, and none is chosen", kind)
	switch {
	case given != "" && len(found) == 0:
		problem = fmt.Sprintf("there is no %s %s", kind, given)
		choices, _ = list(ctx, "*") // without them, the error is as true
	case given != "":
		problem = fmt.Sprintf("there is more than one %s %s", kind, given)
	case len(found) == 0:
		problem = fmt.Sprintf("there is no %s", kind)
	}
	var names []string
	for _, c := range choices {
		names = append(names, pathOf(c))
	}
	remedy := ""
	if len(names) > 0 {
		remedy = variable + "=NAME, of " + strings.Join(names, ", ")
	}
	return none, &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("%s: %s", s.host, problem), Remedy: remedy}
}

// pathOf is where something is in the inventory.
func pathOf(r object.Reference) string {
	if n, ok := r.(interface{ GetInventoryPath() string }); ok {
		return n.GetInventoryPath()
	}
	switch o := r.(type) {
	case *object.Datacenter:
		return o.InventoryPath
	case *object.Datastore:
		return o.InventoryPath
	case *object.HostSystem:
		return o.InventoryPath
	case *object.ComputeResource:
		return o.InventoryPath
	case *object.ResourcePool:
		return o.InventoryPath
	case *object.Folder:
		return o.InventoryPath
	}
	return r.Reference().Value
}

// machine finds the machine of a handle.
func (d *Driver) machine(ctx context.Context, doc hypervisor.Handle) (*session, *machine, error) {
	h, err := parseHandle(doc)
	if err != nil {
		return nil, nil, err
	}
	s, err := d.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.find(ctx, h)
	return s, m, err
}

// machine is a machine that is there.
type machine struct {
	*object.VirtualMachine
	handle
}

// find looks a machine up, by its ID in the inventory or, where a process was
// killed before it knew that, by its name. Both may be another machine's by now:
// the inventory's IDs are small numbers, which a server that is installed anew
// gives out again.
func (s *session) find(ctx context.Context, h handle) (*machine, error) {
	if h.Server != s.host {
		return nil, &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("the machine is on %s, and the server is %s now", h.Server, s.host), Remedy: "GOVC_URL=" + h.Server}
	}
	gone := &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("%w from %s", hypervisor.ErrGone, h.Folder)}
	vm := object.NewVirtualMachine(s.Client, types.ManagedObjectReference{Type: "VirtualMachine", Value: h.VM})
	if h.VM == "" {
		found, err := s.finder().VirtualMachineList(ctx, h.Folder+"/"+h.Name)
		if missing := new(find.NotFoundError); errors.As(err, &missing) || err == nil && len(found) == 0 {
			return nil, gone
		}
		if err != nil {
			return nil, explain(s.host, "looking for the machine", err)
		}
		vm = found[0]
	}
	var seen mo.VirtualMachine
	if err := vm.Properties(ctx, vm.Reference(), []string{"name", "config.extraConfig"}, &seen); err != nil {
		return nil, explain(s.host, "looking for the machine", err)
	}
	if !h.owns(seen) {
		return nil, gone
	}
	return &machine{vm, h}, nil
}

// owns tells whether a machine is the handle's. One that does not say whose it
// is, as while it is made, is known by its name, which has the ID in it too.
func (h handle) owns(vm mo.VirtualMachine) bool {
	if vm.Config != nil {
		for _, option := range vm.Config.ExtraConfig {
			if o := option.GetOptionValue(); o.Key == keyInstance {
				return o.Value == h.ID
			}
		}
	}
	return vm.Name == h.Name
}
