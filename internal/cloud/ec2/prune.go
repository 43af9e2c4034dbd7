package ec2

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/cloud/pushlock"
	"capstan/internal/hypervisor"
)

// abandoned is how old a snapshot of another host's push is that cannot go on:
// the cloud gives one up long before. It is, too, longer than any making or
// removing of an instance takes.
const abandoned = 24 * time.Hour

// Prune removes in the regions what was left by commands that did not come to
// their end and, with all, the images that Capstan has made and nothing in the
// account is of, but for those that another host has made lately. It returns what
// it has removed.
func (d *Driver) Prune(ctx context.Context, all bool) ([]hypervisor.Resource, error) {
	return d.everywhere(ctx, func(c *Client, ctx context.Context) ([]hypervisor.Resource, error) {
		if err := c.identify(ctx); err != nil {
			return nil, err
		}
		return c.prune(ctx, all, time.Now().Add(-abandoned))
	})
}

func (c *Client) prune(ctx context.Context, all bool, before time.Time) (removed []hypervisor.Resource, err error) {
	steps := []func(context.Context, time.Time) ([]hypervisor.Resource, error){c.prunePushes, c.pruneInstances}
	if all {
		steps = append(steps, c.pruneImages)
	}
	for _, step := range steps {
		some, err := step(ctx, before)
		removed = append(removed, some...)
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// prunePushes removes what pushes have left that did not come to their end:
// snapshots that are no image's. Those of pushes that may go on stay: what
// another process of this host is at, and what another host has begun since.
func (c *Client) prunePushes(ctx context.Context, before time.Time) (removed []hypervisor.Resource, err error) {
	list, err := c.snapshots(ctx, filter("tag-key", tagDisk))
	if err != nil {
		return nil, err
	}
	used, err := c.usedSnapshots(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if used[aws.ToString(s.SnapshotId)] {
			continue
		}
		gone, err := c.pruneSnapshot(ctx, s, before)
		if err != nil {
			return removed, err
		}
		if gone {
			removed = append(removed, c.snapshotResource(s))
		}
	}
	return removed, c.pruneStates(ctx, before)
}

// pruneSnapshot removes a snapshot that is no image's, if its push cannot go
// on or is this host's, and no process of this host is at its disk: a push that
// has found a complete snapshot has no state, but the lock.
func (c *Client) pruneSnapshot(ctx context.Context, s types.Snapshot, before time.Time) (bool, error) {
	disk := filepath.Base(tagValue(s.Tags, tagDisk)) // anybody may have set it
	st, err := tryState(c.opts.State, c.stateKey(disk), c.opts.Would != nil)
	if err != nil || st == nil {
		return false, err
	}
	defer st.close()
	id := aws.ToString(s.SnapshotId)
	ours := st.doc.Snapshot == id // and not another host's of the same disk
	if !ours && s.State != types.SnapshotStateError && aws.ToTime(s.StartTime).After(before) {
		return false, nil
	}
	err = c.deleteSnapshot(ctx, id)
	if isCode(err, "InvalidSnapshot.InUse") { // an image is of it since
		return false, nil
	}
	if err == nil && ours {
		err = st.forget()
	}
	return err == nil, err
}

// pruneStates removes the states of pushes of which nothing is left.
func (c *Client) pruneStates(ctx context.Context, before time.Time) error {
	files, err := filepath.Glob(filepath.Join(c.opts.State, c.stateKey("*")+".json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		st, err := tryState(c.opts.State, strings.TrimSuffix(filepath.Base(file), ".json"), c.opts.Would != nil)
		if err != nil {
			return err
		}
		if st == nil {
			continue
		}
		var list []types.Snapshot
		if st.doc.Snapshot != "" { // else the push has ended before it knew
			list, err = c.snapshots(ctx, filter("snapshot-id", st.doc.Snapshot))
		}
		if err == nil && len(list) == 0 && st.doc.Started.Before(before) {
			err = st.forget()
		}
		st.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// usedSnapshots are those of the account's images, without some that are gone
// and may still be listed.
func (c *Client) usedSnapshots(ctx context.Context, gone map[string]bool) (map[string]bool, error) {
	list, err := c.images(ctx, &ec2.DescribeImagesInput{IncludeDisabled: aws.Bool(true)})
	used := map[string]bool{}
	for _, i := range list {
		for _, m := range i.BlockDeviceMappings {
			if m.Ebs != nil && !gone[aws.ToString(i.ImageId)] {
				used[aws.ToString(m.Ebs.SnapshotId)] = true
			}
		}
	}
	return used, err
}

// stateKey names the state of a push of a disk.
func (c *Client) stateKey(disk string) string { return c.account + "-" + c.Region() + "-" + disk }

// pruneInstances removes what belongs to instances of which there is neither a
// template nor a group nor a machine any more, stopped or not: their making or
// their removing did not come to its end. What is younger may be one that is
// being made.
func (c *Client) pruneInstances(ctx context.Context, before time.Time) (removed []hypervisor.Resource, err error) {
	groups, err := c.listSecurityGroups(ctx)
	if err != nil {
		return nil, err
	}
	spots, err := c.listSpots(ctx)
	if err != nil {
		return nil, err
	}
	volumes, err := c.listUnused(ctx)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{"": true}
	for _, list := range []func(context.Context) ([]hypervisor.Resource, error){c.listTemplates, c.listGroups, c.listInstances} {
		some, err := list(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			there[r.Instance] = true
		}
	}
	for _, r := range slices.Concat(spots, groups, volumes) {
		if there[r.Instance] || r.Created.IsZero() || r.Created.After(before) {
			continue
		}
		gone, err := c.pruneOrphan(ctx, r)
		if err != nil {
			return removed, err
		}
		if gone {
			removed = append(removed, r)
		}
	}
	return removed, nil
}

// listUnused tells of volumes that were made for an instance, and that none has
// had yet: they hold nothing.
func (c *Client) listUnused(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.volumes(ctx, filter("tag-key", tagMadeFor), filter("status", string(types.VolumeStateAvailable)))
	var all []hypervisor.Resource
	for _, v := range list {
		r := c.volumeResource(v)
		r.Instance = tagValue(v.Tags, tagMadeFor)
		all = append(all, r)
	}
	return all, err
}

// pruneOrphan removes a spot request, a volume, or a security group that nothing
// uses.
func (c *Client) pruneOrphan(ctx context.Context, r hypervisor.Resource) (bool, error) {
	var err error
	switch types.ResourceType(r.Kind) {
	case types.ResourceTypeSpotInstancesRequest:
		err = c.cancelSpots(ctx, []string{r.ID})
	case types.ResourceTypeVolume:
		err = c.deleteVolume(ctx, r.ID)
		if isCode(err, "VolumeInUse") || isCode(err, "IncorrectState") { // it is attached since
			return false, nil
		}
	default:
		_, err = c.ec2().DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &r.ID})
		if isCode(err, "DependencyViolation") || isCode(err, "InvalidGroup.NotFound") {
			return false, nil
		}
		err = explain("deleting the security group", err)
	}
	return err == nil, err
}

// pruneImages removes the images that nothing in the account is of, with their
// snapshots. Those that other accounts may use stay: nobody knows what they do.
// So do those that another host has just made: it may be about to use them.
func (c *Client) pruneImages(ctx context.Context, before time.Time) (removed []hypervisor.Resource, err error) {
	list, err := c.images(ctx, &ec2.DescribeImagesInput{Filters: []types.Filter{filter("tag-key", tagDisk)}, IncludeDisabled: aws.Bool(true)})
	if err != nil {
		return nil, err
	}
	used, err := c.usedImages(ctx)
	if err != nil {
		return nil, err
	}
	images, snapshots := map[string]bool{}, map[string]bool{}
	for _, i := range list {
		if used[aws.ToString(i.ImageId)] || aws.ToBool(i.Public) || c.isFresh(i, before.Add(abandoned-pushlock.Fresh)) {
			continue
		}
		shared, err := c.isShared(ctx, i)
		if err != nil {
			return removed, err
		}
		if shared {
			continue
		}
		_, err = c.ec2().DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: i.ImageId})
		if err != nil && !isCode(err, "InvalidAMIID.Unavailable") && !isCode(err, "InvalidAMIID.NotFound") {
			return removed, explain("deregistering "+aws.ToString(i.ImageId), err)
		}
		removed = append(removed, c.imageResource(i))
		images[aws.ToString(i.ImageId)] = true
		for _, m := range i.BlockDeviceMappings {
			if m.Ebs != nil {
				snapshots[aws.ToString(m.Ebs.SnapshotId)] = true
			}
		}
	}
	if len(images) == 0 {
		return nil, nil
	}
	// Other images may be of the same snapshots.
	still, err := c.usedSnapshots(ctx, images)
	if err != nil {
		return removed, err
	}
	for id := range still {
		delete(snapshots, id)
	}
	gone, err := c.pruneSnapshots(ctx, snapshots)
	return append(removed, gone...), err
}

// pruneSnapshots removes those of some snapshots that Capstan has made.
func (c *Client) pruneSnapshots(ctx context.Context, ids map[string]bool) (removed []hypervisor.Resource, err error) {
	list, err := c.snapshots(ctx, filter("tag-key", tagDisk))
	for _, s := range list {
		if !ids[aws.ToString(s.SnapshotId)] {
			continue
		}
		gone, err := c.pruneSnapshot(ctx, s, aws.ToTime(s.StartTime)) // of any age
		if err != nil {
			return removed, err
		}
		if gone {
			removed = append(removed, c.snapshotResource(s))
		}
	}
	return removed, err
}

// isFresh tells whether an image is another host's and younger than that.
func (c *Client) isFresh(i types.Image, young time.Time) bool {
	disk := filepath.Base(tagValue(i.Tags, tagDisk)) // anybody may have set it
	return c.imageResource(i).Created.After(young) && !pushlock.IsMade(filepath.Join(c.opts.State, c.stateKey(disk)))
}

// isShared tells whether other accounts may make instances of an image.
func (c *Client) isShared(ctx context.Context, i types.Image) (bool, error) {
	out, err := c.ec2().DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{ImageId: i.ImageId, Attribute: types.ImageAttributeNameLaunchPermission})
	if err != nil {
		return false, explain("asking who may use "+aws.ToString(i.ImageId), err)
	}
	return len(out.LaunchPermissions) > 0, nil
}

// usedImages are those that instances or launch templates of the account are
// of, in any version, whoever has made them.
func (c *Client) usedImages(ctx context.Context) (map[string]bool, error) {
	used := map[string]bool{}
	instances, err := c.instances(ctx)
	if err != nil {
		return nil, err
	}
	for n := range instances {
		if !isEnded(&instances[n]) {
			used[aws.ToString(instances[n].ImageId)] = true
		}
	}
	templates, err := c.templates(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range templates {
		in := &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: t.LaunchTemplateId}
		for more := true; more; more = aws.ToString(in.NextToken) != "" {
			page, err := c.ec2().DescribeLaunchTemplateVersions(ctx, in)
			if isCode(err, "InvalidLaunchTemplateId.NotFound") {
				break // it is gone since
			}
			if err != nil {
				return nil, explain("looking at launch templates", err)
			}
			for _, v := range page.LaunchTemplateVersions {
				used[aws.ToString(v.LaunchTemplateData.ImageId)] = true
			}
			in.NextToken = page.NextToken
		}
	}
	return used, nil
}
