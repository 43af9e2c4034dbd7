package ec2

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// Create makes the launch template, and what it needs: the image, if the
// account has none of this disk, volumes, and a security group; of several
// machines, the group too. What is wrong with the wish is found before anything
// is made.
func (d *Driver) Create(ctx context.Context, spec *hypervisor.RemoteSpec, keep func(hypervisor.Handle) error) error {
	if err := refuseVolumes(spec); err != nil {
		return err
	}
	c, err := d.client(ctx, spec.Cloud.Place)
	if err != nil {
		return err
	}
	if spec.Progress != nil {
		opts := c.opts
		opts.Progress = spec.Progress
		c = c.with(opts)
	}
	h := handle{ID: spec.ID, Region: c.Region(), Subnet: spec.Cloud.Subnet, Group: spec.Replicas > 0}
	volumes, err := c.findVolumes(ctx, spec.Cloud.Volumes)
	if err != nil {
		return err
	}
	if _, err := userData(withVolumes(spec.Guest, volumes)); err != nil {
		return err
	}
	vpc, err := c.network(ctx, spec.Cloud.Subnet)
	if err != nil {
		return err
	}
	kind, err := c.instanceType(ctx, spec, d.arch())
	if err != nil {
		return err
	}
	var subnets []string
	if h.Group {
		if subnets, err = c.subnets(ctx, h.Subnet, kind); err != nil {
			return err
		}
	}
	var zone string
	if len(volumes) > 0 {
		if zone, h.Subnet, err = c.place(ctx, volumes, h.Subnet, kind); err != nil {
			return err
		}
	}
	if err := h.keep(keep); err != nil {
		return err
	}
	ami, err := c.image(ctx, spec, d.arch())
	if err != nil {
		return err
	}
	if len(volumes) > 0 {
		if err := c.makeVolumes(ctx, &h, volumes, zone); err != nil {
			return err
		}
		if err := h.keep(keep); err != nil {
			return err
		}
	}
	data, err := userData(withVolumes(spec.Guest, volumes))
	if err != nil {
		return err
	}
	h.SecurityGroup, err = c.makeSecurityGroup(ctx, h, spec, vpc)
	if err := cmp.Or(err, h.keep(keep)); err != nil {
		return err
	}
	err = c.makeTemplate(ctx, h, spec, template(spec, kind, ami, h.SecurityGroup, data))
	if err == nil && h.Group {
		err = c.makeGroup(ctx, h, subnets, c.instanceTags(spec))
	}
	return err
}

// arch is the guest's.
func (d *Driver) arch() string {
	if d.opts.Arch != "" {
		return d.opts.Arch
	}
	return "amd64"
}

// maxUserData is in bytes, before they are encoded (EC2 User Guide, "Run
// commands when you launch an EC2 instance with user data input").
const maxUserData = 16 << 10

// userData is the guest's config as api.UserData describes it, without what
// the disk alone says.
func userData(cfg api.Config) ([]byte, error) {
	doc, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	var patch map[string]json.RawMessage
	if err := json.Unmarshal(doc, &patch); err != nil {
		return nil, err
	}
	for _, key := range []string{"root", "console", "control", "image"} {
		delete(patch, key)
	}
	if doc, err = json.Marshal(patch); err != nil {
		return nil, err
	}
	if len(doc) > maxUserData {
		return nil, &Error{
			Err:    fmt.Errorf("arguments and environment take %d bytes, and EC2 hands an instance no more than %d", len(doc), maxUserData),
			Remedy: "put what is long into the image, as a file or in its Capstanfile",
		}
	}
	return doc, nil
}

// network is the VPC that an instance is in: its subnet's, or the default one.
func (c *Client) network(ctx context.Context, subnet string) (string, error) {
	if subnet != "" {
		list, err := c.describeSubnets(ctx, subnet)
		if err != nil {
			return "", err
		}
		if len(list) == 1 {
			return aws.ToString(list[0].VpcId), nil
		}
		return "", &Error{Err: fmt.Errorf("there is no subnet %s in %s", subnet, c.Region()), Remedy: "aws ec2 describe-subnets lists them"}
	}
	out, err := c.ec2().DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{filter("is-default", "true")}})
	if err != nil {
		return "", explain("looking for the default VPC", err)
	}
	if len(out.Vpcs) == 0 {
		return "", &Error{Err: errors.New("the account has no default VPC in " + c.Region()), Remedy: "--subnet SUBNET, or aws ec2 create-default-vpc"}
	}
	return aws.ToString(out.Vpcs[0].VpcId), nil
}

// describeSubnets lists the chosen subnet, or the default one of each zone.
func (c *Client) describeSubnets(ctx context.Context, chosen string) ([]types.Subnet, error) {
	in := &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("default-for-az", "true")}}
	if chosen != "" {
		in = &ec2.DescribeSubnetsInput{SubnetIds: []string{chosen}}
	}
	var list []types.Subnet
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeSubnets(ctx, in)
		if err != nil {
			return nil, explain("looking for subnets", err)
		}
		list, in.NextToken = append(list, page.Subnets...), page.NextToken
	}
	return list, nil
}

// image finds the image of the disk, by whatever name, or pushes it.
func (c *Client) image(ctx context.Context, spec *hypervisor.RemoteSpec, arch string) (string, error) {
	boot, err := spec.ImageDisk(Unit)
	if err != nil {
		return "", err
	}
	list, err := c.images(ctx, &ec2.DescribeImagesInput{Filters: []types.Filter{filter("tag:"+tagDisk, boot.ID)}})
	if err != nil {
		return "", err
	}
	for _, i := range list {
		if i.State == types.ImageStateAvailable {
			return aws.ToString(i.ImageId), nil
		}
	}
	// A push outlives longer outages than a question.
	opts := c.opts
	opts.brief = false
	patient := c.with(opts)
	if err := patient.identify(ctx); err != nil {
		return "", err
	}
	img, err := patient.Push(ctx, &Push{
		Name: ImageName(spec.Image), Image: spec.Image, Digest: spec.Digest, Disk: boot.ID, Arch: arch, Size: boot.Size,
		Write: func(ctx context.Context, w io.WriterAt) error {
			return boot.Write(ctx, &counting{WriterAt: w, total: boot.Size, told: c.opts.Progress})
		},
	})
	return img.ID, err
}

// notInName are characters that no image's name has.
var notInName = regexp.MustCompile(`[^a-zA-Z0-9()\[\] ./'@_-]+`)

// ImageName makes a name for an image in EC2 of a reference.
func ImageName(ref string) string {
	const most = 115 // and 13 that are its disk's
	name := strings.Trim(notInName.ReplaceAllString(ref, "-"), "-")
	return name[:min(most, len(name))]
}

// counting tells how far a disk is written.
type counting struct {
	io.WriterAt
	total int64
	done  atomic.Int64
	told  func(what string, done, total int64)
}

func (c *counting) WriteAt(p []byte, at int64) (int, error) {
	n, err := c.WriterAt.WriteAt(p, at)
	if end := at + int64(n); end > c.done.Load() {
		c.done.Store(end)
		c.told("sending the disk", end, c.total)
	}
	return n, err
}

// instanceTags are the tags of all that belongs to an instance of Capstan.
func (c *Client) instanceTags(spec *hypervisor.RemoteSpec) []types.Tag {
	return made([]tag{
		{tagName, spec.Name}, {tagInstance, spec.ID}, {tagInstanceName, spec.Name},
		{tagImage, spec.Image}, {tagDigest, spec.Digest}, {tagVersion, c.opts.Version},
	})
}

// made are tags as EC2's calls take them.
func made(list []tag) []types.Tag {
	const most = 256 // characters of a value
	var tags []types.Tag
	for _, t := range list {
		tags = append(tags, types.Tag{Key: aws.String(t.key), Value: aws.String(t.value[:min(most, len(t.value))])})
	}
	return tags
}

// makeSecurityGroup makes the group that lets exactly the ports in that were
// asked for, from where they were asked for. An answer may get lost: what is
// there already is this group.
func (c *Client) makeSecurityGroup(ctx context.Context, h handle, spec *hypervisor.RemoteSpec, vpc string) (string, error) {
	const doing = "making the security group"
	tags := append(c.instanceTags(spec), made([]tag{{tagCreated, time.Now().UTC().Format(time.RFC3339)}})...)
	out, err := c.ec2().CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String(h.name()), Description: aws.String("Capstan instance " + spec.Name), VpcId: &vpc,
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSecurityGroup, Tags: tags}},
	})
	var id string
	switch {
	case isCode(err, "InvalidGroup.Duplicate"):
		list, err := c.securityGroups(ctx, filter("group-name", h.name()), filter("vpc-id", vpc))
		if err != nil {
			return "", err
		}
		if len(list) == 0 {
			return "", &Error{Doing: doing, Err: errors.New("it is there, and is not listed"), Remedy: "the same command again"}
		}
		id = aws.ToString(list[0].GroupId)
	case err != nil:
		return "", explain(doing, err)
	default:
		id = aws.ToString(out.GroupId)
	}
	rules := permissions(spec.Ports, spec.Cloud.Sources)
	if len(rules) == 0 {
		return id, nil
	}
	return id, c.authorize(ctx, id, rules)
}

// authorize lets the rules in. The group is not known everywhere at once.
func (c *Client) authorize(ctx context.Context, group string, rules []types.IpPermission) error {
	const what = "opening ports"
	return c.repeat(ctx, what, startBound, func(ctx context.Context) (int64, error) {
		_, err := c.ec2().AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: rules})
		if isCode(err, "InvalidGroup.NotFound") {
			return 0, nil
		}
		if err != nil && !isCode(err, "InvalidPermission.Duplicate") {
			return 0, explain(what, err)
		}
		return 100, nil
	})
}

// permissions are the rules for ports that are open for sources.
func permissions(ports []hypervisor.Port, sources []netip.Prefix) []types.IpPermission {
	if len(sources) == 0 {
		return nil
	}
	var rules []types.IpPermission
	for _, p := range ports {
		port := aws.Int32(int32(p.Guest))
		rule := types.IpPermission{IpProtocol: aws.String(p.Protocol), FromPort: port, ToPort: port}
		for _, s := range sources {
			if s.Addr().Is4() {
				rule.IpRanges = append(rule.IpRanges, types.IpRange{CidrIp: aws.String(s.Masked().String())})
			} else {
				rule.Ipv6Ranges = append(rule.Ipv6Ranges, types.Ipv6Range{CidrIpv6: aws.String(s.Masked().String())})
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

// template is what instances are made of.
func template(spec *hypervisor.RemoteSpec, kind, ami, group string, data []byte) *types.RequestLaunchTemplateData {
	t := &types.RequestLaunchTemplateData{
		ImageId: &ami, InstanceType: types.InstanceType(kind), SecurityGroupIds: []string{group},
		UserData: aws.String(base64.StdEncoding.EncodeToString(data)),
		// A guest that switches itself off keeps its disk.
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop,
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{
			HttpEndpoint: types.LaunchTemplateInstanceMetadataEndpointStateEnabled,
			HttpTokens:   types.LaunchTemplateHttpTokensStateRequired,
		},
	}
	if id := spec.Cloud.Identity; strings.HasPrefix(id, "arn:") {
		t.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Arn: &id}
	} else if id != "" {
		t.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: &id}
	}
	if spec.Cloud.Spot {
		t.InstanceMarketOptions = &types.LaunchTemplateInstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot, SpotOptions: spot(spec.Replicas > 0)}
	}
	if spec.Replicas > 0 { // what is replaced is of no use any more
		t.InstanceInitiatedShutdownBehavior = types.ShutdownBehaviorTerminate
	}
	return t
}

// spot is how spot instances are asked for. Only a persistent request's can be
// stopped and started; Auto Scaling makes requests anew by itself.
func spot(group bool) *types.LaunchTemplateSpotMarketOptionsRequest {
	if group {
		return &types.LaunchTemplateSpotMarketOptionsRequest{SpotInstanceType: types.SpotInstanceTypeOneTime}
	}
	return &types.LaunchTemplateSpotMarketOptionsRequest{
		SpotInstanceType: types.SpotInstanceTypePersistent, InstanceInterruptionBehavior: types.InstanceInterruptionBehaviorStop,
	}
}

// codeNoTemplate is EC2's where there is no launch template of a name.
const codeNoTemplate = "InvalidLaunchTemplateName.NotFoundException"

// makeTemplate makes the launch template, whose instances are tagged as it is.
func (c *Client) makeTemplate(ctx context.Context, h handle, spec *hypervisor.RemoteSpec, t *types.RequestLaunchTemplateData) error {
	tags := c.instanceTags(spec)
	kinds := []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface}
	if t.InstanceMarketOptions != nil {
		kinds = append(kinds, types.ResourceTypeSpotInstancesRequest)
	}
	for _, kind := range kinds {
		t.TagSpecifications = append(t.TagSpecifications, types.LaunchTemplateTagSpecificationRequest{ResourceType: kind, Tags: tags})
	}
	_, err := c.ec2().CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		ClientToken: aws.String(h.name()), LaunchTemplateName: aws.String(h.name()), LaunchTemplateData: t,
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeLaunchTemplate, Tags: tags}},
	})
	if isCode(err, "InvalidLaunchTemplateName.AlreadyExistsException") { // the answer got lost
		return nil
	}
	return explain("making the launch template", err)
}
