package ec2

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/hypervisor"
)

// Bounds on waiting for the end of what is removed.
const (
	terminateBound = 15 * time.Minute
	detachBound    = 5 * time.Minute // a security group may be in use for a while
)

// Remove ends the instance and deletes all that carries its ID: the group and
// the template first, so that nothing is made of them any more.
func (d *Driver) Remove(ctx context.Context, doc hypervisor.Handle) error {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return err
	}
	steps := []func(context.Context, handle) error{c.removeTemplate, c.cancelSpot, c.terminate, c.removeSecurityGroups, c.removeUnused}
	if h.Group {
		steps = slices.Insert(steps, 0, c.removeGroup)
	}
	for _, step := range steps {
		if err := step(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// removeTemplate deletes the template by its name: one that was just made may
// not be listed yet.
func (c *Client) removeTemplate(ctx context.Context, h handle) error {
	_, err := c.ec2().DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateName: aws.String(h.name())})
	if isCode(err, codeNoTemplate) {
		return nil
	}
	return explain("deleting the launch template", err)
}

// cancelSpot withdraws requests for spot instances, which would be filled anew.
func (c *Client) cancelSpot(ctx context.Context, h handle) error {
	list, err := c.spotRequests(ctx, c.owned(h.ID))
	if err != nil || len(list) == 0 {
		return err
	}
	var ids []string
	for _, r := range list {
		ids = append(ids, aws.ToString(r.SpotInstanceRequestId))
	}
	return c.cancelSpots(ctx, ids)
}

func (c *Client) cancelSpots(ctx context.Context, ids []string) error {
	_, err := c.ec2().CancelSpotInstanceRequests(ctx, &ec2.CancelSpotInstanceRequestsInput{SpotInstanceRequestIds: ids})
	return explain("withdrawing the spot request", err)
}

// terminate ends instances, with their disks, and waits until they have ended:
// they use the security group until then.
func (c *Client) terminate(ctx context.Context, h handle) error {
	const what = "removing the instance"
	told := map[string]bool{}
	return c.repeat(ctx, what, terminateBound, func(ctx context.Context) (int64, error) {
		list, err := c.instances(ctx, c.owned(h.ID))
		if err != nil {
			return 0, err
		}
		var ids, spots []string
		ended := true
		for n := range list {
			ended = ended && stateOf(&list[n]) == types.InstanceStateNameTerminated
			if id := aws.ToString(list[n].InstanceId); !isEnded(&list[n]) && !told[id] {
				ids = append(ids, id)
				if spot := aws.ToString(list[n].SpotInstanceRequestId); spot != "" {
					spots = append(spots, spot)
				}
			}
		}
		if ended {
			return 100, nil
		}
		if len(spots) > 0 { // the request may not have been listed
			if err := c.cancelSpots(ctx, spots); err != nil {
				return 0, err
			}
		}
		if len(ids) > 0 {
			_, err := c.ec2().TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids})
			if err != nil && !isCode(err, "InvalidInstanceID.NotFound") {
				return 0, explain(what, err)
			}
			for _, id := range ids {
				told[id] = err == nil
			}
		}
		return 0, nil
	})
}

func (c *Client) removeSecurityGroups(ctx context.Context, h handle) error {
	const what = "deleting the security group"
	return c.repeat(ctx, what, detachBound, func(ctx context.Context) (int64, error) {
		list, err := c.securityGroups(ctx, c.owned(h.ID))
		if err != nil {
			return 0, err
		}
		var ids []string
		if h.SecurityGroup != "" { // it may not be listed yet
			ids = append(ids, h.SecurityGroup)
		}
		for _, g := range list {
			if id := aws.ToString(g.GroupId); id != h.SecurityGroup {
				ids = append(ids, id)
			}
		}
		for _, id := range ids {
			_, err := c.ec2().DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &id})
			if isCode(err, "DependencyViolation") {
				// A network interface is still being deleted, or an instance
				// was not listed yet that was just made.
				return 0, c.terminate(ctx, h)
			}
			if err != nil && !isCode(err, "InvalidGroup.NotFound") {
				return 0, explain(what, err)
			}
		}
		return 100, nil
	})
}
