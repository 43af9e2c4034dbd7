package gce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
	archive "capstan/internal/image/disk/gce"
)

// Create makes the instance template, and what it needs: the image, if the
// project has none of this disk, and firewall rules. What is wrong with the
// wish is found before anything is made.
func (d *Driver) Create(ctx context.Context, spec *hypervisor.RemoteSpec, keep func(hypervisor.Handle) error) error {
	return explain(d.create(ctx, spec, keep))
}

func (d *Driver) create(ctx context.Context, spec *hypervisor.RemoteSpec, keep func(hypervisor.Handle) error) error {
	if err := refuseVolumes(spec); err != nil {
		return err
	}
	c, err := d.connect(ctx, spec.Cloud.Project)
	if err != nil {
		return err
	}
	if spec.Progress != nil {
		c.opts.Progress = spec.Progress
	}
	h := handle{ID: spec.ID, Project: c.opts.Project, Name: NameOf(spec.Name) + "-" + spec.ID, Group: spec.Replicas > 0, Volumes: len(spec.Cloud.Volumes) > 0}
	h.Zone = firstOf(spec.Cloud.Place, c.opts.Zone, setting("compute", "zone"))
	if h.Zone == "" {
		return &hypervisor.RemoteError{Platform: Name, Err: errors.New("no zone is named"), Remedy: "--zone ZONE, or gcloud config set compute/zone ZONE"}
	}
	doc, err := json.Marshal(h)
	if err != nil {
		return err
	}
	t, err := c.template(h, spec)
	if err != nil {
		return err
	}
	arch := firstOf(c.opts.Arch, "amd64")
	if c.opts.Would != nil {
		return errors.Join(keep(doc), c.tellCreate(h, spec, t, arch))
	}
	if t.Properties.MachineType, err = c.machineType(ctx, h.Zone, spec, arch); err != nil {
		return err
	}
	network, err := c.network(ctx, h.Zone, spec.Cloud.Subnet)
	if err != nil {
		return err
	}
	missing, err := c.missingVolumes(ctx, h, spec.Cloud.Volumes)
	if err != nil {
		return err
	}
	if err := keep(doc); err != nil {
		return err
	}
	if t.Properties.Disks[0].Init, err = c.imageOf(ctx, spec, arch, t.Properties.Disks[0].Init); err != nil {
		return err
	}
	if err := c.makeVolumes(ctx, h, missing, arch); err != nil {
		return err
	}
	for _, rule := range firewalls(h, spec, network) {
		if err := c.make(ctx, "opening the ports", c.insertFirewall(rule)); err != nil {
			return err
		}
	}
	err = c.make(ctx, "making the instance template", c.insertTemplate(t))
	if err == nil && h.Group {
		err = c.make(ctx, "making the group", c.insertGroup(h))
	}
	return err
}

// make has something made, once: a call that is given up may still make it, and
// what is there already was made by such a call.
func (c *Client) make(ctx context.Context, doing string, what call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var op operation
	what.whole = true
	err := c.do(ctx, what, &op)
	if is(err, http.StatusConflict) {
		return nil
	}
	if err == nil {
		err = c.awaitWithin(ctx, makeTime, doing, op)
	}
	return err
}

// template is what of an instance template is said (Compute Engine's API v1,
// instanceTemplates).
type template struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Properties  properties `json:"properties"`
}

type properties struct {
	MachineType string             `json:"machineType"`
	Labels      map[string]string  `json:"labels"`
	Tags        map[string]any     `json:"tags"`
	Disks       []attached         `json:"disks"`
	Interfaces  []networkInterface `json:"networkInterfaces"`
	Metadata    map[string]any     `json:"metadata"`
	Accounts    []map[string]any   `json:"serviceAccounts,omitempty"`
	Scheduling  map[string]any     `json:"scheduling,omitempty"`
}

type attached struct {
	Boot       bool       `json:"boot"`
	AutoDelete bool       `json:"autoDelete"`
	Init       diskParams `json:"initializeParams,omitzero"`
	// Of a disk that there is: which, as what the machine knows it, and whether
	// it writes to it.
	Source string `json:"source,omitempty"`
	Device string `json:"deviceName,omitempty"`
	Mode   string `json:"mode,omitempty"`
}

type diskParams struct {
	Image  string            `json:"sourceImage"`
	Type   string            `json:"diskType"`
	Size   int64             `json:"diskSizeGb,string"`
	Labels map[string]string `json:"labels"`
}

type networkInterface struct {
	Network    string              `json:"network,omitempty"`
	Subnetwork string              `json:"subnetwork,omitempty"`
	NIC        string              `json:"nicType"`
	Access     []map[string]string `json:"accessConfigs"`
}

// template describes the machine, but for its type and its image.
func (c *Client) template(h handle, spec *hypervisor.RemoteSpec) (template, error) {
	labels := c.labels(spec)
	nic := networkInterface{Network: "global/networks/" + defaultNetwork, NIC: "GVNIC", Access: []map[string]string{{"type": "ONE_TO_ONE_NAT", "name": "External NAT"}}}
	if spec.Cloud.Subnet != "" {
		nic.Network, nic.Subnetwork = "", "projects/"+h.Project+"/regions/"+regionOf(h.Zone)+"/subnetworks/"+spec.Cloud.Subnet
	}
	p := properties{
		Labels: labels, Tags: map[string]any{"items": []string{h.group()}},
		Disks:      []attached{{Boot: true, AutoDelete: true, Init: diskParams{Type: "pd-balanced", Labels: labels}}},
		Interfaces: []networkInterface{nic},
	}
	guest := spec.Guest
	attachVolumes(&p, &guest, spec.Cloud.Volumes)
	data, err := userData(guest)
	if err != nil {
		return template{}, err
	}
	p.Metadata = map[string]any{"items": []map[string]string{{"key": api.UserData, "value": data}}}
	if spec.Cloud.Identity != "" {
		p.Accounts = []map[string]any{{"email": spec.Cloud.Identity, "scopes": []string{scope}}}
	}
	if spec.Cloud.Spot {
		p.Scheduling = map[string]any{"provisioningModel": "SPOT", "instanceTerminationAction": "STOP", "automaticRestart": false, "onHostMaintenance": "TERMINATE"}
	}
	return template{h.group(), fmt.Sprintf("%s: %s, %s, made by capstan %s", spec.Name, spec.Image, spec.Digest, c.opts.Version), p}, nil
}

// labels are those of all that belongs to an instance.
func (c *Client) labels(spec *hypervisor.RemoteSpec) map[string]string {
	return map[string]string{
		labelInstance: label(spec.ID), "capstan-name": label(spec.Name), "capstan-image": label(spec.Image),
		"capstan-digest": label(strings.TrimPrefix(spec.Digest, "sha256:")), "capstan-version": label(c.opts.Version),
	}
}

const labelInstance = "capstan-instance"

// maxUserData bounds a value of an instance's metadata, in bytes (Compute
// Engine's "Limitations" of custom metadata).
const maxUserData = 256 << 10

// userData is a guest's config as the guest takes it from its cloud. What the
// disk says of itself holds there; null removes what only the disk names.
func userData(guest api.Config) (string, error) {
	doc, err := json.Marshal(guest)
	if err == nil && len(doc) > maxUserData {
		err = &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("the instance's config has %d bytes, more than the %d of Compute Engine's metadata", len(doc), maxUserData), Remedy: "a shorter environment or command"}
	}
	return string(doc), err
}

const defaultNetwork = "default"

func regionOf(zone string) string {
	if i := strings.LastIndexByte(zone, '-'); i > 0 {
		return zone[:i]
	}
	return zone
}

// network is the one that the machine is in, which the firewall rules are for.
func (c *Client) network(ctx context.Context, zone, subnet string) (string, error) {
	if subnet == "" {
		err := c.do(ctx, c.getNetwork(), nil)
		if is(err, http.StatusNotFound) {
			err = &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("the project %s has no network %q", c.opts.Project, defaultNetwork), Remedy: "--subnet NAME"}
		}
		return "global/networks/" + defaultNetwork, err
	}
	var have struct{ Network string }
	err := c.do(ctx, c.getSubnet(zone, subnet), &have)
	if is(err, http.StatusNotFound) {
		err = &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("there is no subnet %s in %s", subnet, regionOf(zone)), Remedy: "gcloud compute networks subnets list"}
	}
	return have.Network, err
}

func (c *Client) getNetwork() call {
	return call{method: "GET", url: c.global() + "networks/" + defaultNetwork}
}

func (c *Client) getSubnet(zone, name string) call {
	return call{method: "GET", url: c.compute + "projects/" + url.PathEscape(c.opts.Project) + "/regions/" + url.PathEscape(regionOf(zone)) + "/subnetworks/" + url.PathEscape(name)}
}

// firewall is what of a firewall rule is said (Compute Engine's API v1,
// firewalls).
type firewall struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Network     string   `json:"network"`
	Sources     []string `json:"sourceRanges"`
	Tags        []string `json:"targetTags"`
	Allowed     []allow  `json:"allowed"`
}

type allow struct {
	Protocol string   `json:"IPProtocol"`
	Ports    []string `json:"ports"`
}

// firewalls open the ports to the sources that were named, and none without
// them. A rule is for addresses of one kind.
func firewalls(h handle, spec *hypervisor.RemoteSpec, network string) []firewall {
	ports := map[string][]string{}
	for _, p := range spec.Ports {
		ports[p.Protocol] = append(ports[p.Protocol], fmt.Sprint(p.Guest))
	}
	var allowed []allow
	for _, protocol := range []string{"tcp", "udp"} {
		if list := ports[protocol]; len(list) > 0 {
			allowed = append(allowed, allow{protocol, list})
		}
	}
	var rules []firewall
	for suffix, kind := range map[string]func(netip.Addr) bool{"": netip.Addr.Is4, "-6": netip.Addr.Is6} {
		var from []string
		for _, s := range spec.Cloud.Sources {
			if kind(s.Addr()) {
				from = append(from, s.String())
			}
		}
		if len(from) > 0 && len(allowed) > 0 {
			rules = append(rules, firewall{h.group() + suffix, "capstan: " + spec.Name, network, from, []string{h.group()}, allowed})
		}
	}
	return rules
}

func (c *Client) insertFirewall(f firewall) call {
	return call{method: "POST", url: c.global() + "firewalls?requestId=" + requestID(), body: f}
}

func (c *Client) insertTemplate(t template) call {
	return call{method: "POST", url: c.global() + "instanceTemplates?requestId=" + requestID(), body: t}
}

// imageOf returns the machine's disk with the image of the spec's disk, which it
// makes where there is none, whatever it is called.
func (c *Client) imageOf(ctx context.Context, spec *hypervisor.RemoteSpec, arch string, boot diskParams) (diskParams, error) {
	d, err := spec.ImageDisk(1 << 30)
	if err != nil {
		return boot, err
	}
	boot.Size = bootSize(d)
	list, err := all[image](ctx, c, c.global()+"images", diskFilter(d.ID), "")
	if err != nil {
		return boot, err
	}
	p := c.pushOf(spec, d, arch)
	if i := slices.IndexFunc(list, func(i image) bool { return i.Status == "READY" }); i >= 0 {
		boot.Image = "projects/" + c.opts.Project + "/global/images/" + list[i].Name
		return boot, c.tidy(ctx, p)
	}
	made, err := c.patient().Push(ctx, p)
	boot.Image = made.Path
	return boot, err
}

// bootSize is the size of a machine's disk, in GiB: its image's, which is in
// whole GiB, unless that is less than a disk can have.
func bootSize(image hypervisor.BootDisk) int64 { return max(image.Size, smallestDisk) >> 30 }

// diskFilter is for a list of images.
func diskFilter(disk string) string { return "labels.capstan-disk=" + label(disk) }

func (c *Client) pushOf(spec *hypervisor.RemoteSpec, d hypervisor.BootDisk, arch string) *Push {
	return &Push{
		Name: NameOf(spec.Image), Image: spec.Image, Digest: spec.Digest, Arch: arch, Disk: d.ID,
		Archive: func(ctx context.Context, w io.Writer) error {
			return archive.Write(w, d.Size, func(w io.WriterAt) error { return d.Write(ctx, w) })
		},
	}
}
