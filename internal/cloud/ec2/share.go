package ec2

import (
	"context"
	"crypto/rand"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Copy makes an image that Push has made available in another region, unless
// it is there.
func (c *Client) Copy(ctx context.Context, p *Push, img Image, region string) (Image, error) {
	there := c.in(region)
	copied, err := there.findImage(ctx, p)
	if err != nil {
		return copied, err
	}
	if !copied.Found {
		st, err := newState(c.opts.State, there.stateKey(p.Disk), c.opts.Would != nil)
		if err == nil {
			err = st.noteMade()
		}
		if err != nil {
			return copied, err
		}
		// One token for each attempt: the cloud would answer an old one with an
		// image that has failed, or was removed.
		out, err := there.ec2().CopyImage(ctx, &ec2.CopyImageInput{
			Name: aws.String(p.fullName()), Description: aws.String("Capstan image " + p.Image),
			SourceImageId: &img.ID, SourceRegion: &img.Region,
			ClientToken:       aws.String(rand.Text()),
			TagSpecifications: c.specify(p, types.ResourceTypeImage, types.ResourceTypeSnapshot),
		})
		if err == nil {
			copied.ID = aws.ToString(out.ImageId)
		} else if copied, err = there.taken(ctx, p, explain("copying the image to "+region, err)); err != nil {
			return copied, err
		}
	}
	return copied, there.awaitMade(ctx, copied, copyBound)
}

// Share lets other accounts make instances of an image; with public, all of
// them.
func (c *Client) Share(ctx context.Context, img Image, accounts []string, public bool) error {
	var add []types.LaunchPermission
	for _, account := range accounts {
		add = append(add, types.LaunchPermission{UserId: &account})
	}
	if public {
		add = append(add, types.LaunchPermission{Group: types.PermissionGroupAll})
	}
	_, err := c.in(img.Region).ec2().ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId: &img.ID, Attribute: aws.String("launchPermission"),
		LaunchPermission: &types.LaunchPermissionModifications{Add: add},
	})
	return explain("sharing "+img.ID, err)
}
