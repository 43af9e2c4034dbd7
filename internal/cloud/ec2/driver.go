package ec2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/hypervisor"
	"capstan/internal/image/disk"
)

// Name is the platform's.
const Name = "ec2"

// Driver is the platform. An instance of Capstan is a launch template, which
// costs nothing and holds the user-data, a security group, and, once it was
// started, an EC2 instance of the template; one of several machines has an Auto
// Scaling group of them. All of these carry its ID as a tag, by which they are
// found.
type Driver struct {
	opts Options

	mu      sync.Mutex
	clients map[string]*Client // by region
}

// New returns the driver. It connects when it has to.
func New(o Options) *Driver {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	o.brief = true
	return &Driver{opts: o, clients: map[string]*Client{}}
}

// Name is the platform's, as --on takes it.
func (*Driver) Name() string { return Name }

// Capabilities are what EC2 can do.
func (*Driver) Capabilities() hypervisor.Capabilities {
	return hypervisor.Capabilities{
		Away: true, Cloud: true, OneConsole: true, Window: true, Ports: true, UDP: true,
		Disk: disk.Raw, Console: "/dev/ttyS0",
	}
}

// Close has nothing to do: there is no session.
func (*Driver) Close() error { return nil }

// handle is what is known of a machine.
type handle struct {
	ID     string `json:"id"` // the instance's, which all that belongs to it carries
	Region string `json:"region"`
	Subnet string `json:"subnet,omitempty"`
	Group  bool   `json:"group,omitempty"`
	// SecurityGroup is its ID, once it was made.
	SecurityGroup string `json:"securityGroup,omitempty"`
	// Volumes are the IDs of those that it has once it runs.
	Volumes []string `json:"volumes,omitempty"`
}

func (h handle) keep(keep func(hypervisor.Handle) error) error {
	doc, err := json.Marshal(h)
	if err == nil {
		err = keep(doc)
	}
	return err
}

func parseHandle(doc hypervisor.Handle) (handle, error) {
	var h handle
	if err := json.Unmarshal(doc, &h); err != nil || h.ID == "" || h.Region == "" {
		return h, fmt.Errorf("%s: the instance's handle is damaged", Name)
	}
	return h, nil
}

// name is that of the template, the security group and the group.
func (h handle) name() string { return "capstan-" + h.ID }

// client returns the client of a region; "" is the default.
func (d *Driver) client(ctx context.Context, region string) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.clients[region]; c != nil {
		return c, nil
	}
	opts := d.opts
	if region != "" {
		opts.Region = region
	}
	c, err := dial(ctx, opts)
	if err == nil {
		d.clients[region] = c
	}
	return c, err
}

// of returns a handle with the client of its region.
func (d *Driver) of(ctx context.Context, doc hypervisor.Handle) (*Client, handle, error) {
	h, err := parseHandle(doc)
	if err != nil {
		return nil, h, err
	}
	c, err := d.client(ctx, h.Region)
	return c, h, err
}

// Status asks for the state of the instance.
func (d *Driver) Status(ctx context.Context, doc hypervisor.Handle) (hypervisor.RemoteStatus, error) {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return hypervisor.RemoteStatus{}, err
	}
	if h.Group {
		return c.groupStatus(ctx, h)
	}
	i, err := c.machine(ctx, h)
	if err != nil || !isOn(i) {
		return hypervisor.RemoteStatus{}, err
	}
	return hypervisor.RemoteStatus{On: true, Started: aws.ToTime(i.LaunchTime), Address: addressOf(i)}, nil
}

// addressOf is the one by which an instance is reached from outside, where it
// has one, else the one in its network: that is known before the other is.
func addressOf(i *types.Instance) netip.Addr {
	all := []*string{i.PublicIpAddress, i.PrivateIpAddress, i.Ipv6Address}
	if stateOf(i) == types.InstanceStateNamePending {
		all = all[:1]
	}
	for _, s := range all {
		if addr, err := netip.ParseAddr(aws.ToString(s)); err == nil {
			return addr
		}
	}
	return netip.Addr{}
}

// stateOf is an instance's; "" where there is none.
func stateOf(i *types.Instance) types.InstanceStateName {
	if i == nil || i.State == nil {
		return ""
	}
	return i.State.Name
}

// isOn tells whether an instance has power. One that is stopping has.
func isOn(i *types.Instance) bool {
	switch stateOf(i) {
	case types.InstanceStateNamePending, types.InstanceStateNameRunning, types.InstanceStateNameStopping:
		return true
	}
	return false
}

// isEnded tells of an instance that there is no more.
func isEnded(i *types.Instance) bool {
	s := stateOf(i)
	return s == types.InstanceStateNameTerminated || s == types.InstanceStateNameShuttingDown
}

// errGone says that there is nothing of the machine any more that could run.
func errGone(h handle) error {
	return &Error{Err: fmt.Errorf("%w from %s", hypervisor.ErrGone, h.Region)}
}

// machine returns the instance that was made of the handle's template; nil
// where none was yet.
func (c *Client) machine(ctx context.Context, h handle) (*types.Instance, error) {
	i, err := c.instance(ctx, h)
	if err != nil || i != nil || c.opts.Would != nil {
		return i, err
	}
	templates, err := c.templates(ctx, c.owned(h.ID))
	if err == nil && len(templates) == 0 {
		err = errGone(h)
	}
	return nil, err
}

// instance is machine, but that it does not look whether there is a template: who
// has just made one may not see it yet.
func (c *Client) instance(ctx context.Context, h handle) (*types.Instance, error) {
	list, err := c.instances(ctx, c.owned(h.ID))
	if err != nil {
		return nil, err
	}
	for n := range list {
		if !isEnded(&list[n]) {
			return &list[n], nil
		}
	}
	if len(list) > 0 {
		return nil, errGone(h)
	}
	return nil, nil
}

// owned filters for what belongs to an instance of Capstan.
func (c *Client) owned(id string) types.Filter { return filter("tag:"+tagInstance, id) }

// instances lists the account's, those too that ended within the last hour.
func (c *Client) instances(ctx context.Context, filters ...types.Filter) ([]types.Instance, error) {
	in := &ec2.DescribeInstancesInput{Filters: filters}
	var list []types.Instance
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeInstances(ctx, in)
		if err != nil {
			return nil, explain("listing instances", err)
		}
		for _, r := range page.Reservations {
			list = append(list, r.Instances...)
		}
		in.NextToken = page.NextToken
	}
	return list, nil
}

// templates lists the account's launch templates.
func (c *Client) templates(ctx context.Context, filters ...types.Filter) ([]types.LaunchTemplate, error) {
	in := &ec2.DescribeLaunchTemplatesInput{Filters: filters}
	var list []types.LaunchTemplate
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeLaunchTemplates(ctx, in)
		if err != nil {
			return nil, explain("listing launch templates", err)
		}
		list, in.NextToken = append(list, page.LaunchTemplates...), page.NextToken
	}
	return list, nil
}

// securityGroups lists the account's.
func (c *Client) securityGroups(ctx context.Context, filters ...types.Filter) ([]types.SecurityGroup, error) {
	in := &ec2.DescribeSecurityGroupsInput{Filters: filters}
	var list []types.SecurityGroup
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeSecurityGroups(ctx, in)
		if err != nil {
			return nil, explain("listing security groups", err)
		}
		list, in.NextToken = append(list, page.SecurityGroups...), page.NextToken
	}
	return list, nil
}

// tagValue is a tag's; "" where there is none.
func tagValue(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// parseTime reads a time as EC2 writes it; the zero Time where there is none.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// bounded tells whether only the bound of a wait has ended it.
func bounded(outer, inner context.Context) bool {
	return outer.Err() == nil && errors.Is(inner.Err(), context.DeadlineExceeded)
}
