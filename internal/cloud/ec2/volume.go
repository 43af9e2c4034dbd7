package ec2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
	"capstan/internal/image/disk/compose"
)

// A volume is an EBS volume that belongs to no instance. It is made of a
// snapshot of an empty file system, and is found by its tag. It is of a zone,
// and so are the instances that it is attached to, once they run: a launch
// template cannot name it.

const (
	tagVolume = "capstan:volume"
	// tagMadeFor is, on a volume, the ID of the instance that it was made for.
	// It is taken away before the volume is attached for the first time: whose
	// has it still holds nothing.
	tagMadeFor = "capstan:made-for"

	// volumeSize is that of a volume of which nobody says it, in bytes.
	volumeSize = 10 << 30
	// mostVolumes is how many there are names for: /dev/sdf to /dev/sdp (EC2
	// User Guide, "Device names for volumes").
	mostVolumes = 11
	// volumeWait bounds, in seconds, the guest's wait for a volume: it boots
	// sooner than EC2 says that it runs, and attaches.
	volumeWait = 300
)

// wanted is a volume that was asked for, and the one that there is.
type wanted struct {
	hypervisor.Volume
	have *types.Volume // nil: it has to be made
}

func (w wanted) gigabytes() int32 {
	size := w.Size
	if size == 0 {
		size = volumeSize
	}
	return int32((size + Unit - 1) / Unit)
}

// mount is how the guest mounts it: the serial number of its NVMe disk is the
// volume's ID without the hyphen.
func (w wanted) mount() api.Mount {
	serial := "vol00000000000000000" // as long as the one that it will have
	if w.have != nil {
		serial = strings.ReplaceAll(aws.ToString(w.have.VolumeId), "-", "")
	}
	return api.Mount{Type: "ext4", Source: "serial:" + serial, Target: w.Target, ReadOnly: w.ReadOnly, Wait: volumeWait}
}

// withVolumes is a guest's config with the mounts of volumes.
func withVolumes(guest api.Config, volumes []wanted) api.Config {
	guest.Mounts = slices.Clip(guest.Mounts)
	for _, w := range volumes {
		guest.Mounts = append(guest.Mounts, w.mount())
	}
	return guest
}

// refuseVolumes is why volumes cannot be had.
func refuseVolumes(spec *hypervisor.RemoteSpec) error {
	switch n := len(spec.Cloud.Volumes); {
	case n > 0 && spec.Replicas > 0:
		return &hypervisor.CannotError{Platform: Name, What: "attach a volume to the machines of a group", Remedy: "leave -v or --replicas out"}
	case n > mostVolumes:
		return &hypervisor.CannotError{Platform: Name, What: fmt.Sprintf("attach %d volumes to an instance", n), Remedy: fmt.Sprintf("%d or fewer", mostVolumes)}
	}
	return nil
}

// findVolumes looks for the volumes that are asked for. One that cannot be used
// is an error.
func (c *Client) findVolumes(ctx context.Context, asked []hypervisor.Volume) ([]wanted, error) {
	var all []wanted
	for _, v := range asked {
		list, err := c.volumes(ctx, filter("tag:"+tagVolume, v.Name))
		if err != nil {
			return nil, err
		}
		w := wanted{Volume: v}
		switch {
		case len(list) > 1:
			return nil, &Error{
				Err:    fmt.Errorf("there are %d volumes %s in %s: %s and %s", len(list), v.Name, c.Region(), aws.ToString(list[0].VolumeId), aws.ToString(list[1].VolumeId)),
				Remedy: "aws ec2 delete-volume removes the one that is not wanted",
			}
		case len(list) == 1:
			w.have = &list[0]
			if err := c.usable(ctx, w); err != nil {
				return nil, err
			}
		}
		all = append(all, w)
	}
	return all, nil
}

// usable tells whether the volume that there is can be had as it is asked for.
func (c *Client) usable(ctx context.Context, w wanted) error {
	id := aws.ToString(w.have.VolumeId)
	if w.have.State == types.VolumeStateError {
		return &Error{Err: fmt.Errorf("the volume %s is lost: EC2 tells that %s has failed", w.Name, id), Remedy: "capstan volume rm --on ec2 " + w.Name + ", and an empty one is made"}
	}
	if has := aws.ToInt32(w.have.Size); w.Size > 0 && w.gigabytes() != has {
		return &Error{
			Err:    fmt.Errorf("the volume %s is there already, with %d GiB", w.Name, has),
			Remedy: fmt.Sprintf("leave :size= out; or aws ec2 modify-volume --volume-id %s --size %d makes it larger", id, w.gigabytes()),
		}
	}
	return c.free(ctx, *w.have)
}

// free tells whether a volume can be attached.
func (c *Client) free(ctx context.Context, v types.Volume) error {
	for _, a := range v.Attachments {
		switch a.State {
		case types.VolumeAttachmentStateDetached, types.VolumeAttachmentStateDetaching: // it is free by then
		default:
			return c.errAttached(ctx, v, aws.ToString(a.InstanceId))
		}
	}
	return nil
}

// errAttached says which instance a volume is attached to.
func (c *Client) errAttached(ctx context.Context, v types.Volume, instance string) error {
	list, err := c.instances(ctx, filter("instance-id", instance))
	if err != nil {
		return err
	}
	remedy := "aws ec2 detach-volume, or another volume"
	for _, i := range list {
		if name := tagValue(i.Tags, tagInstanceName); name != "" {
			instance, remedy = name, "capstan rm "+name+", which keeps the volume"
		}
	}
	name := cmp.Or(tagValue(v.Tags, tagVolume), aws.ToString(v.VolumeId))
	return &Error{Err: fmt.Errorf("the volume %s is attached to the instance %s", name, instance), Remedy: remedy}
}

// usersOf are the instances that a volume is attached to, or being so.
func usersOf(v types.Volume) []string {
	var ids []string
	for _, a := range v.Attachments {
		if a.State != types.VolumeAttachmentStateDetached {
			ids = append(ids, aws.ToString(a.InstanceId))
		}
	}
	return ids
}

// place returns the zone of the volumes, and a subnet of it for the instance:
// the chosen one, which has to be there, or the zone's default one. Where no
// volume is there yet, any zone will do that has the instance type.
func (c *Client) place(ctx context.Context, volumes []wanted, chosen, kind string) (zone, subnet string, err error) {
	var of string
	for _, w := range volumes {
		if w.have == nil {
			continue
		}
		if in := aws.ToString(w.have.AvailabilityZone); zone == "" {
			zone, of = in, w.Name
		} else if in != zone {
			return "", "", &Error{Err: fmt.Errorf("the volumes %s and %s are in two zones, %s and %s", of, w.Name, zone, in), Remedy: "one of them at a time"}
		}
	}
	subnets, err := c.describeSubnets(ctx, chosen)
	if err != nil {
		return "", "", err
	}
	offered, err := c.offered(ctx, kind)
	if err != nil {
		return "", "", err
	}
	for _, s := range subnets {
		at := aws.ToString(s.AvailabilityZone)
		if (zone == "" || at == zone) && slices.Contains(offered, at) {
			return at, aws.ToString(s.SubnetId), nil
		}
	}
	switch {
	case zone == "":
		return "", "", &Error{Err: fmt.Errorf("no subnet is in a zone of %s that has the instance type %s", c.Region(), kind), Remedy: "another --subnet, or another --type"}
	case !slices.Contains(offered, zone):
		return "", "", &Error{Err: fmt.Errorf("the volume %s is in %s, which has no instance type %s", of, zone, kind), Remedy: "another --type"}
	case chosen != "":
		return "", "", &Error{Err: fmt.Errorf("the volume %s is in %s, and the subnet %s is not", of, zone, chosen), Remedy: "a --subnet of " + zone}
	}
	return "", "", &Error{Err: fmt.Errorf("the volume %s is in %s, where the account has no default subnet", of, zone), Remedy: "--subnet SUBNET, one of " + zone}
}

// offered are the zones that have an instance type.
func (c *Client) offered(ctx context.Context, kind string) ([]string, error) {
	out, err := c.ec2().DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone, Filters: []types.Filter{filter("instance-type", kind)},
	})
	if err != nil {
		return nil, explain("looking for zones with the instance type", err)
	}
	var zones []string
	for _, o := range out.InstanceTypeOfferings {
		zones = append(zones, aws.ToString(o.Location))
	}
	return zones, nil
}

// makeVolumes makes those of the volumes that are not there, and notes all of
// them in the handle.
func (c *Client) makeVolumes(ctx context.Context, h *handle, volumes []wanted, zone string) error {
	if slices.ContainsFunc(volumes, func(w wanted) bool { return w.have == nil }) {
		if err := c.makeMissing(ctx, *h, volumes, zone); err != nil {
			return err
		}
	}
	for _, w := range volumes {
		h.Volumes = append(h.Volumes, aws.ToString(w.have.VolumeId))
	}
	return nil
}

func (c *Client) makeMissing(ctx context.Context, h handle, volumes []wanted, zone string) error {
	snapshot, err := c.emptySnapshot(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for n, w := range volumes {
		if w.have != nil {
			continue
		}
		tags := made([]tag{{tagName, w.Name}, {tagVolume, w.Name}, {tagMadeFor, h.ID}, {tagVersion, c.opts.Version}})
		out, err := c.ec2().CreateVolume(ctx, &ec2.CreateVolumeInput{
			AvailabilityZone: &zone, SnapshotId: &snapshot, Size: aws.Int32(w.gigabytes()), VolumeType: types.VolumeTypeGp3,
			ClientToken:       aws.String(h.name() + "-" + w.Name),
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeVolume, Tags: tags}},
		})
		if err != nil {
			return explain("making the volume "+w.Name, err)
		}
		volumes[n].have = &types.Volume{VolumeId: out.VolumeId}
		ids = append(ids, aws.ToString(out.VolumeId))
	}
	return c.await(ctx, "making the volumes", startBound, func(ctx context.Context) (int64, error) {
		list, err := c.volumes(ctx, filter("volume-id", ids...))
		ready := 0
		for _, v := range list {
			switch v.State {
			case types.VolumeStateAvailable, types.VolumeStateInUse:
				ready++
			case types.VolumeStateError:
				return 0, &Error{Doing: "making the volumes", Err: fmt.Errorf("EC2 has given %s up", aws.ToString(v.VolumeId)), Remedy: "the same command again"}
			}
		}
		return int64(100 * ready / len(ids)), err
	})
}

// emptySnapshot is what volumes are made of.
func (c *Client) emptySnapshot(ctx context.Context) (string, error) {
	opts := c.opts
	opts.brief = false
	c = c.with(opts) // a push outlives longer outages than a question
	if err := c.identify(ctx); err != nil {
		return "", err
	}
	disk := compose.Volume{Size: Unit}
	id, err := disk.ID()
	if err != nil {
		return "", err
	}
	st, err := c.lockState(ctx, id)
	if err != nil {
		return "", err
	}
	defer st.close()
	snapshot, _, err := c.snapshot(ctx, &Push{
		Name: "capstan-volume", Image: "an empty volume", Digest: id, Disk: id, Size: disk.Size,
		Write: func(_ context.Context, w io.WriterAt) error { return disk.Write(w) },
	}, st)
	if err != nil {
		return "", err
	}
	return snapshot, st.forget()
}

// removeUnused deletes the volumes that were made for an instance which was
// never given them, each once it is made.
func (c *Client) removeUnused(ctx context.Context, h handle) error {
	return c.repeat(ctx, "deleting unused volumes", detachBound, func(ctx context.Context) (int64, error) {
		list, err := c.volumes(ctx, filter("tag:"+tagMadeFor, h.ID))
		if err != nil {
			return 0, err
		}
		done := int64(100)
		for _, v := range list {
			if v.State == types.VolumeStateCreating {
				done = 0
				continue
			}
			if err := c.deleteVolume(ctx, aws.ToString(v.VolumeId)); err != nil {
				return 0, err
			}
		}
		return done, nil
	})
}

// deleteVolume deletes a volume. One that is being deleted is in no state for it,
// and is no error.
func (c *Client) deleteVolume(ctx context.Context, id string) error {
	_, err := c.ec2().DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &id})
	if isCode(err, "IncorrectState") {
		if list, failed := c.volumes(ctx, filter("volume-id", id)); failed == nil && len(list) == 0 {
			return nil
		}
	}
	if isCode(err, "InvalidVolume.NotFound") {
		return nil
	}
	return explain("deleting the volume "+id, err)
}

// volumes lists the account's, without those that are deleted, which EC2 lists
// for minutes yet.
func (c *Client) volumes(ctx context.Context, filters ...types.Filter) ([]types.Volume, error) {
	in := &ec2.DescribeVolumesInput{Filters: filters}
	var list []types.Volume
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeVolumes(ctx, in)
		if err != nil {
			return nil, explain("listing volumes", err)
		}
		for _, v := range page.Volumes {
			switch v.State {
			case types.VolumeStateDeleting, types.VolumeStateDeleted:
			default:
				list = append(list, v)
			}
		}
		in.NextToken = page.NextToken
	}
	return list, nil
}

// Volumes tells which volumes there are in the regions.
func (d *Driver) Volumes(ctx context.Context) ([]hypervisor.KeptVolume, error) {
	regions, err := d.regions(ctx)
	if err != nil {
		return nil, err
	}
	var all []hypervisor.KeptVolume
	for _, c := range regions {
		list, failed := c.volumes(ctx, filter("tag-key", tagVolume))
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", c.Region(), failed))
		}
		for _, v := range list {
			all = append(all, hypervisor.KeptVolume{
				Platform: Name, Place: c.Region(), Name: tagValue(v.Tags, tagVolume), ID: aws.ToString(v.VolumeId),
				Size: int64(aws.ToInt32(v.Size)) * Unit, Users: usersOf(v), Status: string(v.State), Created: aws.ToTime(v.CreateTime),
			})
		}
	}
	return all, err
}

// RemoveVolume deletes a volume.
func (d *Driver) RemoveVolume(ctx context.Context, v hypervisor.KeptVolume) error {
	c, err := d.client(ctx, v.Place)
	if err != nil {
		return err
	}
	return c.deleteVolume(ctx, v.ID)
}
