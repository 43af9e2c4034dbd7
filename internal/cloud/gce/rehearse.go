package gce

import (
	"net/http"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// Rehearse returns a driver that tells of all calls, those too that only read,
// and makes none. Create and Start tell of those for a disk and a machine that
// there are none of yet.
func (d *Driver) Rehearse(would func(call string)) hypervisor.Remote {
	o := d.opts
	o.Would = would
	return New(o)
}

// pretended is what a call is answered that is not made: there is nothing, and
// what is begun is done.
func pretended(what call) answer {
	if what.method == http.MethodGet {
		return answer{status: http.StatusOK, body: []byte(`{}`)}
	}
	return answer{status: http.StatusOK, body: []byte(`{"name":"OPERATION","status":"DONE"}`)}
}

// tellCreate tells which calls Create would make.
func (c *Client) tellCreate(h handle, spec *hypervisor.RemoteSpec, t template, arch string) error {
	d, err := spec.ImageDisk(1 << 30)
	if err != nil {
		return err
	}
	network := "global/networks/" + defaultNetwork
	look := c.getNetwork()
	if spec.Cloud.Subnet != "" {
		network, look = "NETWORK", c.getSubnet(h.Zone, spec.Cloud.Subnet)
	}
	// What the machine is told may be secret.
	t.Properties.Metadata = map[string]any{"items": []map[string]string{{"key": api.UserData, "value": "..."}}}
	t.Properties.MachineType = firstOf(spec.Cloud.Type, "TYPE")
	p := c.pushOf(spec, d, arch)
	boot := &t.Properties.Disks[0].Init
	boot.Image, boot.Size = "projects/"+h.Project+"/global/images/"+p.imageName(), bootSize(d)
	for _, one := range []call{c.listTypes(h.Zone, spec.Cloud.Type, ""), look, page(c.global()+"images", query(diskFilter(d.ID), "items", ""))} {
		c.opts.Would(one.String())
	}
	c.tell(p)
	if err := c.tellVolumes(h, spec.Cloud.Volumes, arch); err != nil {
		return err
	}
	for _, f := range firewalls(h, spec, network) {
		c.opts.Would(c.insertFirewall(f).String())
	}
	c.opts.Would(c.insertTemplate(t).String())
	if h.Group {
		c.opts.Would(c.insertGroup(h).String())
	}
	return nil
}
