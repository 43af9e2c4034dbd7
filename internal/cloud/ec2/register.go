package ec2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// rootDevice is how the root is called in an image's block devices. On the
// instance types that boot by UEFI it is an NVMe disk.
const rootDevice = "/dev/xvda"

// findImage looks for the disk's image of this name.
func (c *Client) findImage(ctx context.Context, p *Push) (Image, error) {
	img := Image{Region: c.Region()}
	list, err := c.images(ctx, &ec2.DescribeImagesInput{
		Filters: []types.Filter{filter("name", p.fullName()), filter("tag:"+tagDisk, p.Disk)},
	})
	for _, i := range list {
		if i.State != types.ImageStateAvailable && i.State != types.ImageStatePending {
			continue
		}
		img.ID, img.Found = aws.ToString(i.ImageId), true
		for _, m := range i.BlockDeviceMappings {
			if m.Ebs != nil {
				img.Snapshot = aws.ToString(m.Ebs.SnapshotId)
			}
		}
	}
	return img, err
}

// images lists the account's own.
func (c *Client) images(ctx context.Context, in *ec2.DescribeImagesInput) ([]types.Image, error) {
	in.Owners = []string{"self"}
	var list []types.Image
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeImages(ctx, in)
		if err != nil {
			return nil, explain("listing images", err)
		}
		list, in.NextToken = append(list, page.Images...), page.NextToken
	}
	return list, nil
}

// register makes an image of a snapshot. An answer may get lost: the name is
// taken then, by that image.
func (c *Client) register(ctx context.Context, p *Push, snapshot string) (string, error) {
	arch := types.ArchitectureValuesX8664
	if p.Arch == "arm64" {
		arch = types.ArchitectureValuesArm64
	}
	out, err := c.ec2().RegisterImage(ctx, &ec2.RegisterImageInput{
		Name:               aws.String(p.fullName()),
		Description:        aws.String("Capstan image " + p.Image),
		Architecture:       arch,
		BootMode:           types.BootModeValuesUefi, // the disk has nothing for a BIOS
		EnaSupport:         aws.Bool(true),
		ImdsSupport:        types.ImdsSupportValuesV20, // IMDSv2 required
		VirtualizationType: aws.String(string(types.VirtualizationTypeHvm)),
		RootDeviceName:     aws.String(rootDevice),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String(rootDevice),
			Ebs: &types.EbsBlockDevice{
				SnapshotId: &snapshot, VolumeType: types.VolumeTypeGp3,
				VolumeSize: aws.Int32(int32(p.Size / Unit)), DeleteOnTermination: aws.Bool(true),
			},
		}},
		TagSpecifications: c.specify(p, types.ResourceTypeImage),
	})
	if err != nil {
		img, err := c.taken(ctx, p, explain("registering the image", err))
		return img.ID, err
	}
	return aws.ToString(out.ImageId), nil
}

// taken finds the disk's image where making it was refused because there is one
// of this name. Another refusal is returned, and so is one for another image.
func (c *Client) taken(ctx context.Context, p *Push, refused error) (Image, error) {
	if !isCode(refused, "InvalidAMIName.Duplicate") {
		return Image{}, refused
	}
	img, err := c.findImage(ctx, p)
	if err == nil && !img.Found {
		err = refused
	}
	return img, err
}

// specify are a push's tags on what is made.
func (c *Client) specify(p *Push, kinds ...types.ResourceType) []types.TagSpecification {
	tags := c.tags(p)
	var list []types.TagSpecification
	for _, kind := range kinds {
		list = append(list, types.TagSpecification{ResourceType: kind, Tags: tags})
	}
	return list
}

// awaitMade is awaitImage for one that Push or Copy has made, or found.
func (c *Client) awaitMade(ctx context.Context, img Image, bound time.Duration) error {
	err := c.awaitImage(ctx, img.ID, bound)
	if img.Found {
		return err
	}
	return keeping(err, fmt.Sprintf("the image %s is made in %s", img.ID, img.Region),
		fmt.Sprintf("aws ec2 deregister-image --delete-associated-snapshots --region %s --image-id %s", img.Region, img.ID))
}

// awaitImage waits until instances can be made of an image.
func (c *Client) awaitImage(ctx context.Context, id string, bound time.Duration) error {
	what := "waiting for " + id
	return c.await(ctx, what, bound, func(ctx context.Context) (int64, error) {
		out, err := c.ec2().DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
		if isCode(err, "InvalidAMIID.NotFound") || err == nil && len(out.Images) == 0 {
			return 0, nil // not known everywhere yet
		}
		if err != nil {
			return 0, explain(what, err)
		}
		switch i := out.Images[0]; i.State {
		case types.ImageStateAvailable:
			return 100, nil
		case types.ImageStatePending, types.ImageStateTransient:
			return 0, nil
		default:
			why := errors.New("its state is " + string(i.State))
			if i.StateReason != nil {
				why = fmt.Errorf("%w: %s", why, aws.ToString(i.StateReason.Message))
			}
			return 0, &Error{what, why, "the same command again"}
		}
	})
}
