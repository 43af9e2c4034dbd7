package ec2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	scaling "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/hypervisor"
)

func (c *Client) scaling() *autoscaling.Client { return autoscaling.NewFromConfig(c.config) }

// A group is an Auto Scaling group of the instances of a launch template, whose
// name it has. Auto Scaling keeps it at a number of them: one that ends, or
// that its guest switches off, is terminated and replaced.

// Bounds on a group's changes: each of its instances is one to wait for.
const (
	groupScaleBound  = 5 * time.Minute
	groupEmptyBound  = 20 * time.Minute
	groupRemoveBound = 20 * time.Minute
)

// makeGroup makes a group of no instances, which costs nothing. The tags are
// its own; those of its instances are the template's. One that is there already
// is this group: an answer may get lost.
func (c *Client) makeGroup(ctx context.Context, h handle, subnets []string, tags []types.Tag) error {
	name := aws.String(h.name())
	in := &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: name,
		MinSize:              aws.Int32(0), MaxSize: aws.Int32(0), DesiredCapacity: aws.Int32(0),
		LaunchTemplate:    &scaling.LaunchTemplateSpecification{LaunchTemplateName: name, Version: aws.String("1")},
		VPCZoneIdentifier: aws.String(strings.Join(subnets, ",")),
	}
	for _, t := range tags {
		in.Tags = append(in.Tags, scaling.Tag{
			Key: t.Key, Value: t.Value, PropagateAtLaunch: aws.Bool(false), ResourceId: name, ResourceType: aws.String(kindGroup),
		})
	}
	_, err := c.scaling().CreateAutoScalingGroup(ctx, in)
	if isCode(err, "AlreadyExists") {
		return nil
	}
	return explain("making the group", err)
}

// kindGroup is how Auto Scaling calls a group among what has tags.
const kindGroup = "auto-scaling-group"

// Scale sets how many instances a group has.
func (d *Driver) Scale(ctx context.Context, doc hypervisor.Handle, replicas int) error {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return err
	}
	return c.scaleGroup(ctx, h, replicas)
}

// scaleGroup sets the number of a group's instances. Nothing else changes that:
// the least and the most are the same.
func (c *Client) scaleGroup(ctx context.Context, h handle, replicas int) error {
	const what = "scaling the group"
	n := aws.Int32(int32(replicas))
	return c.repeat(ctx, what, groupScaleBound, func(ctx context.Context) (int64, error) {
		_, err := c.scaling().UpdateAutoScalingGroup(ctx, &autoscaling.UpdateAutoScalingGroupInput{
			AutoScalingGroupName: aws.String(h.name()), MinSize: n, MaxSize: n, DesiredCapacity: n,
		})
		switch {
		case isBusy(err):
			return 0, nil
		case isCode(err, "ValidationError"): // only its words say which
			if _, gone := c.group(ctx, h); gone != nil {
				err = gone
			}
		}
		return 100, explain(what, err)
	})
}

// isBusy tells that Auto Scaling is at something else with a group.
func isBusy(err error) bool {
	return isCode(err, "ScalingActivityInProgress") || isCode(err, "ResourceContention")
}

// emptyGroup takes all instances of a group away, and waits until they have
// ended.
func (c *Client) emptyGroup(ctx context.Context, h handle) error {
	if err := c.scaleGroup(ctx, h, 0); err != nil {
		return err
	}
	return c.await(ctx, "stopping the group", groupEmptyBound, func(ctx context.Context) (int64, error) {
		g, err := c.group(ctx, h)
		if err != nil || len(g.Instances) > 0 {
			return 0, err
		}
		return 100, nil
	})
}

// groupStatus asks for a group and its instances.
func (c *Client) groupStatus(ctx context.Context, h handle) (hypervisor.RemoteStatus, error) {
	g, err := c.group(ctx, h)
	if err != nil {
		return hypervisor.RemoteStatus{}, err
	}
	now := hypervisor.RemoteStatus{Replicas: int(aws.ToInt32(g.DesiredCapacity))}
	list, err := c.instances(ctx, c.owned(h.ID))
	running := 0
	for _, one := range g.Instances {
		m := hypervisor.Member{ID: aws.ToString(one.InstanceId), Status: string(one.LifecycleState)}
		for n := range list {
			if i := &list[n]; aws.ToString(i.InstanceId) == m.ID && isOn(i) {
				m.On, m.Address = true, addressOf(i)
			}
		}
		if m.On {
			now.On = true
			running++
		}
		now.Members = append(now.Members, m)
	}
	if err == nil && running < now.Replicas {
		now.Trouble, err = c.groupTrouble(ctx, h)
	}
	return now, err
}

// groupTrouble is why Auto Scaling has launched no instance when it last tried;
// "" where it has, or is at its first try. Whose policy does not allow the
// question, as those of older versions of Capstan did not, is not told.
func (c *Client) groupTrouble(ctx context.Context, h handle) (string, error) {
	out, err := c.scaling().DescribeScalingActivities(ctx, &autoscaling.DescribeScalingActivitiesInput{AutoScalingGroupName: aws.String(h.name())})
	if isCode(err, "AccessDenied") {
		return "", nil
	}
	if err != nil {
		return "", explain("asking how the group fares", err)
	}
	for _, a := range out.Activities { // the newest comes first
		switch a.StatusCode {
		case scaling.ScalingActivityStatusCodeFailed:
			return aws.ToString(a.StatusMessage), nil
		case scaling.ScalingActivityStatusCodeSuccessful:
			return "", nil
		}
	}
	return "", nil
}

func (c *Client) group(ctx context.Context, h handle) (scaling.AutoScalingGroup, error) {
	out, err := c.scaling().DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{h.name()}})
	if err != nil {
		return scaling.AutoScalingGroup{}, explain("looking at the group", err)
	}
	if len(out.AutoScalingGroups) == 0 {
		return scaling.AutoScalingGroup{}, errGone(h)
	}
	return out.AutoScalingGroups[0], nil
}

// removeGroup deletes a group with its instances, and waits until it is gone:
// until then they use what else belongs to it. What is gone already is no
// error. It is deleted before anybody looks: one that was just made may not be
// listed yet.
func (c *Client) removeGroup(ctx context.Context, h handle) error {
	const what = "removing the group"
	told := false
	return c.repeat(ctx, what, groupRemoveBound, func(ctx context.Context) (int64, error) {
		if !told {
			_, err := c.scaling().DeleteAutoScalingGroup(ctx, &autoscaling.DeleteAutoScalingGroupInput{
				AutoScalingGroupName: aws.String(h.name()), ForceDelete: aws.Bool(true),
			})
			if isBusy(err) {
				return 0, nil // it is told again
			}
			if err != nil && !isCode(err, "ValidationError") { // that is: there is none
				return 0, explain(what, err)
			}
			told = err == nil
		}
		_, err := c.group(ctx, h)
		if errors.Is(err, hypervisor.ErrGone) {
			return 100, nil
		}
		return 0, err
	})
}

// subnets are those of a group: the one that is chosen, or all default ones in
// zones that have the instance type. Not all zones have all of them, and Auto
// Scaling would try in vain there again and again.
func (c *Client) subnets(ctx context.Context, chosen, kind string) ([]string, error) {
	if chosen != "" {
		return []string{chosen}, nil
	}
	offered, err := c.offered(ctx, kind)
	if err != nil {
		return nil, err
	}
	all, err := c.describeSubnets(ctx, "")
	if err != nil {
		return nil, err
	}
	var list []string
	for _, s := range all {
		if slices.Contains(offered, aws.ToString(s.AvailabilityZone)) {
			list = append(list, aws.ToString(s.SubnetId))
		}
	}
	if len(list) == 0 {
		return nil, &Error{Err: fmt.Errorf("no default subnet of %s is in a zone that has the instance type %s", c.Region(), kind), Remedy: "--subnet SUBNET, or another --type"}
	}
	return list, nil
}
