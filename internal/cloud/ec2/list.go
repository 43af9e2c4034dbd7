package ec2

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	scaling "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"capstan/internal/hypervisor"
)

// List tells all that Capstan has made in the regions.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Resource, error) {
	return d.everywhere(ctx, (*Client).list)
}

// maxRegions bounds in how many regions something is done at once.
const maxRegions = 8

// everywhere does something in all regions of the options, and returns what is
// told of it, in their order. A region that fails does not hide the others.
func (d *Driver) everywhere(ctx context.Context, do func(*Client, context.Context) ([]hypervisor.Resource, error)) ([]hypervisor.Resource, error) {
	regions, err := d.regions(ctx)
	if err != nil {
		return nil, err
	}
	var doing errgroup.Group
	doing.SetLimit(maxRegions)
	told, failed := make([][]hypervisor.Resource, len(regions)), make([]error, len(regions))
	for n, c := range regions {
		doing.Go(func() error {
			told[n], failed[n] = do(c, ctx)
			return nil
		})
	}
	_ = doing.Wait() // nobody returns an error
	var all []hypervisor.Resource
	for n, c := range regions {
		all = append(all, told[n]...)
		if failed[n] != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", c.Region(), failed[n]))
		}
	}
	return all, err
}

// regions are the clients of those in the options, or of the default one.
func (d *Driver) regions(ctx context.Context) ([]*Client, error) {
	cfg, err := configure(ctx, d.opts)
	if err != nil {
		return nil, err
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, explain("", err)
	}
	names := d.opts.Regions
	if len(names) == 0 {
		if cfg.Region == "" {
			return nil, errNoRegion
		}
		names = []string{cfg.Region}
	}
	var list []*Client
	for _, name := range names {
		cfg.Region = name
		list = append(list, open(cfg, d.opts))
	}
	return list, nil
}

// list tells what there is in the region.
func (c *Client) list(ctx context.Context) ([]hypervisor.Resource, error) {
	looks := []func(context.Context) ([]hypervisor.Resource, error){
		c.listInstances, c.listVolumes, c.listSnapshots, c.listImages, c.listTemplates, c.listSecurityGroups, c.listGroups, c.listSpots,
	}
	var asking errgroup.Group
	told, failed := make([][]hypervisor.Resource, len(looks)), make([]error, len(looks))
	for n, look := range looks {
		asking.Go(func() error {
			told[n], failed[n] = look(ctx)
			return nil
		})
	}
	_ = asking.Wait() // nobody returns an error
	var all []hypervisor.Resource
	for _, some := range told {
		all = append(all, some...)
	}
	return all, cmp.Or(failed...) // one says enough: mostly it is the same
}

// ours filters for all that Capstan has made.
func ours() types.Filter { return filter("tag-key", tagVersion) }

// resource is something that has tags.
func (c *Client) resource(kind types.ResourceType, id *string, tags []types.Tag) hypervisor.Resource {
	return hypervisor.Resource{
		Platform: Name, Place: c.Region(), Kind: string(kind), ID: aws.ToString(id),
		Name: tagValue(tags, tagName), Instance: tagValue(tags, tagInstance), Image: tagValue(tags, tagImage),
	}
}

// resources are what is made of each of a list.
func resources[T any](list []T, of func(T) hypervisor.Resource) []hypervisor.Resource {
	var all []hypervisor.Resource
	for _, one := range list {
		all = append(all, of(one))
	}
	return all
}

func (c *Client) listInstances(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.instances(ctx, ours())
	var all []hypervisor.Resource
	for n := range list {
		i := &list[n]
		if isEnded(i) {
			continue
		}
		r := c.resource(types.ResourceTypeInstance, i.InstanceId, i.Tags)
		r.Status, r.Created = string(stateOf(i)), aws.ToTime(i.LaunchTime)
		if a := addressOf(i); isOn(i) && a.IsValid() {
			r.Address = a.String()
		}
		all = append(all, r)
	}
	return all, err
}

func (c *Client) listVolumes(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.volumes(ctx, ours())
	return resources(list, c.volumeResource), err
}

func (c *Client) volumeResource(v types.Volume) hypervisor.Resource {
	r := c.resource(types.ResourceTypeVolume, v.VolumeId, v.Tags)
	r.Status, r.Created = string(v.State), aws.ToTime(v.CreateTime)
	return r
}

func (c *Client) listSnapshots(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.snapshots(ctx, ours())
	return resources(list, c.snapshotResource), err
}

func (c *Client) snapshotResource(s types.Snapshot) hypervisor.Resource {
	r := c.resource(types.ResourceTypeSnapshot, s.SnapshotId, s.Tags)
	r.Status, r.Created = string(s.State), aws.ToTime(s.StartTime)
	return r
}

func (c *Client) listImages(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.images(ctx, &ec2.DescribeImagesInput{Filters: []types.Filter{ours()}, IncludeDisabled: aws.Bool(true)})
	return resources(list, c.imageResource), err
}

func (c *Client) imageResource(i types.Image) hypervisor.Resource {
	r := c.resource(types.ResourceTypeImage, i.ImageId, i.Tags)
	r.Status, r.Created = string(i.State), parseTime(aws.ToString(i.CreationDate))
	return r
}

func (c *Client) listTemplates(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.templates(ctx, ours())
	return resources(list, func(t types.LaunchTemplate) hypervisor.Resource {
		r := c.resource(types.ResourceTypeLaunchTemplate, t.LaunchTemplateId, t.Tags)
		r.Created = aws.ToTime(t.CreateTime)
		return r
	}), err
}

func (c *Client) listSecurityGroups(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.securityGroups(ctx, ours())
	return resources(list, func(g types.SecurityGroup) hypervisor.Resource {
		r := c.resource(types.ResourceTypeSecurityGroup, g.GroupId, g.Tags)
		r.Created = parseTime(tagValue(g.Tags, tagCreated))
		return r
	}), err
}

func (c *Client) listGroups(ctx context.Context) ([]hypervisor.Resource, error) {
	in := &autoscaling.DescribeAutoScalingGroupsInput{Filters: []scaling.Filter{{Name: aws.String("tag-key"), Values: []string{tagVersion}}}}
	var all []hypervisor.Resource
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.scaling().DescribeAutoScalingGroups(ctx, in)
		if err != nil {
			return all, explain("listing groups", err)
		}
		for _, g := range page.AutoScalingGroups {
			var tags []types.Tag
			for _, t := range g.Tags {
				tags = append(tags, types.Tag{Key: t.Key, Value: t.Value})
			}
			r := c.resource(kindGroup, g.AutoScalingGroupName, tags)
			r.Status, r.Created = aws.ToString(g.Status), aws.ToTime(g.CreatedTime)
			all = append(all, r)
		}
		in.NextToken = page.NextToken
	}
	return all, nil
}

func (c *Client) listSpots(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.spotRequests(ctx, ours())
	return resources(list, func(s types.SpotInstanceRequest) hypervisor.Resource {
		r := c.resource(types.ResourceTypeSpotInstancesRequest, s.SpotInstanceRequestId, s.Tags)
		r.Status, r.Created = string(s.State), aws.ToTime(s.CreateTime)
		return r
	}), err
}

// spotRequests are those that may still make an instance, or have one.
func (c *Client) spotRequests(ctx context.Context, filters ...types.Filter) ([]types.SpotInstanceRequest, error) {
	in := &ec2.DescribeSpotInstanceRequestsInput{Filters: filters}
	var list []types.SpotInstanceRequest
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeSpotInstanceRequests(ctx, in)
		if err != nil {
			return nil, explain("listing spot requests", err)
		}
		for _, r := range page.SpotInstanceRequests {
			switch r.State {
			case types.SpotInstanceStateOpen, types.SpotInstanceStateActive, types.SpotInstanceStateDisabled:
				list = append(list, r)
			}
		}
		in.NextToken = page.NextToken
	}
	return list, nil
}
