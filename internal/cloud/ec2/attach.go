package ec2

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// attach has the instance have its volumes. It can take none before it runs; its
// guest waits for them. What it has already stays as it is.
func (c *Client) attach(ctx context.Context, h handle) error {
	if len(h.Volumes) == 0 {
		return nil
	}
	// It may have ended by now, too.
	if err := c.awaitState(ctx, h, starting, startBound, types.InstanceStateNameRunning, types.InstanceStateNameStopping, types.InstanceStateNameStopped); err != nil {
		return err
	}
	i, err := c.machine(ctx, h)
	if err != nil {
		return err
	}
	instance := "i-dryrun"
	if c.opts.Would == nil {
		if i == nil {
			return errGone(h)
		}
		instance = aws.ToString(i.InstanceId)
	}
	return c.repeat(ctx, "attaching the volumes", startBound, func(ctx context.Context) (int64, error) {
		done := 0
		for n, id := range h.Volumes {
			ok, err := c.attachOne(ctx, id, instance, "/dev/sd"+string(rune('f'+n)))
			if err != nil {
				return 0, err
			}
			if ok {
				done++
			}
		}
		return int64(100 * done / len(h.Volumes)), nil
	})
}

// checkFree looks whether an instance that is about to be made can have its
// volumes: one that cannot would cost, and serve nobody.
func (c *Client) checkFree(ctx context.Context, h handle) error {
	if len(h.Volumes) == 0 {
		return nil
	}
	list, err := c.volumes(ctx, filter("volume-id", h.Volumes...))
	for _, v := range list {
		if err == nil {
			err = c.free(ctx, v)
		}
	}
	return err
}

// attachOne has a volume attached, and tells whether it is.
func (c *Client) attachOne(ctx context.Context, id, instance, device string) (bool, error) {
	list, err := c.volumes(ctx, filter("volume-id", id))
	if err != nil {
		return false, err
	}
	if len(list) == 0 && c.opts.Would == nil {
		return false, &Error{Err: fmt.Errorf("there is no volume %s any more", id), Remedy: "capstan rm of the instance, and another run"}
	}
	for _, v := range list {
		for _, a := range v.Attachments {
			switch {
			case a.State == types.VolumeAttachmentStateDetached:
			case aws.ToString(a.InstanceId) == instance && a.State != types.VolumeAttachmentStateDetaching:
				return a.State == types.VolumeAttachmentStateAttached, nil
			case a.State == types.VolumeAttachmentStateDetaching:
				return false, nil
			default:
				return false, c.errAttached(ctx, v, aws.ToString(a.InstanceId))
			}
		}
	}
	// From now on something may be written to it.
	_, err = c.ec2().DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: aws.String(tagMadeFor)}}})
	if err != nil {
		return false, explain("attaching the volume "+id, err)
	}
	_, err = c.ec2().AttachVolume(ctx, &ec2.AttachVolumeInput{Device: &device, InstanceId: &instance, VolumeId: &id})
	if isCode(err, "VolumeInUse") || isCode(err, "IncorrectState") || isCode(err, "IncorrectInstanceState") {
		return false, nil // the next question tells
	}
	return false, explain("attaching the volume "+id, err)
}
