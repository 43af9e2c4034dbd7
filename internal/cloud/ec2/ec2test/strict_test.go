//go:build linux && e2e

package ec2test

import (
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
)

// strict is a caller of a cloud that has an image and a security group.
type strict struct {
	*ec2.Client
	cloud *Cloud
	image string
	group *string
}

func newStrict(t *testing.T) *strict {
	t.Helper()
	s := &strict{cloud: Pretend(t, "192.0.2.7"), image: "ami-0123456789abcdef0"}
	s.cloud.images[s.image] = image{region: Regions[0]}
	s.Client = ec2.New(ec2.Options{
		Region: Regions[0], BaseEndpoint: &s.cloud.URL, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("test", Secret, ""),
	})
	vpcs, err := s.DescribeVpcs(t.Context(), nil)
	if err != nil || len(vpcs.Vpcs) == 0 {
		t.Fatalf("%+v, %v", vpcs, err)
	}
	out, err := s.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{
		GroupName: aws.String("a-group"), Description: aws.String("a group"), VpcId: vpcs.Vpcs[0].VpcId, TagSpecifications: tagged(types.ResourceTypeSecurityGroup),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.group = out.GroupId
	return s
}

func tagged(kind types.ResourceType) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: kind, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("a")}}}}
}

// template is one as it has to be.
func (s *strict) template() *ec2.CreateLaunchTemplateInput {
	data := &types.RequestLaunchTemplateData{
		ImageId: &s.image, InstanceType: types.InstanceTypeT3Nano, SecurityGroupIds: []string{*s.group},
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte("data"))),
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{
			HttpEndpoint: types.LaunchTemplateInstanceMetadataEndpointStateEnabled, HttpTokens: types.LaunchTemplateHttpTokensStateRequired,
		},
	}
	for _, kind := range []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface} {
		data.TagSpecifications = append(data.TagSpecifications, types.LaunchTemplateTagSpecificationRequest{ResourceType: kind, Tags: tagged(kind)[0].Tags})
	}
	return &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("a-template"), LaunchTemplateData: data, TagSpecifications: tagged(types.ResourceTypeLaunchTemplate)}
}

// code is that of an error; "" of none.
func code(err error) string {
	var said smithy.APIError
	if errors.As(err, &said) {
		return said.ErrorCode()
	}
	return ""
}

// TestStrict: what EC2 refuses is refused, and what it takes is taken.
func TestStrict(t *testing.T) {
	s := newStrict(t)
	for name, change := range map[string]func(*ec2.CreateLaunchTemplateInput, *types.RequestLaunchTemplateData){
		"too much user data": func(_ *ec2.CreateLaunchTemplateInput, d *types.RequestLaunchTemplateData) {
			d.UserData = aws.String(base64.StdEncoding.EncodeToString(make([]byte, 16385)))
		},
		"user data as it is": func(_ *ec2.CreateLaunchTemplateInput, d *types.RequestLaunchTemplateData) {
			d.UserData = aws.String("{}")
		},
		"another's image": func(_ *ec2.CreateLaunchTemplateInput, d *types.RequestLaunchTemplateData) {
			d.ImageId = aws.String("ami-1")
		},
		"no such type":           func(_ *ec2.CreateLaunchTemplateInput, d *types.RequestLaunchTemplateData) { d.InstanceType = "t3.tiny" },
		"IMDSv1":                 func(_ *ec2.CreateLaunchTemplateInput, d *types.RequestLaunchTemplateData) { d.MetadataOptions = nil },
		"instances without tags": func(_ *ec2.CreateLaunchTemplateInput, d *types.RequestLaunchTemplateData) { d.TagSpecifications = nil },
		"without tags": func(in *ec2.CreateLaunchTemplateInput, _ *types.RequestLaunchTemplateData) {
			in.TagSpecifications = nil
		},
		"AWS's own tag": func(in *ec2.CreateLaunchTemplateInput, _ *types.RequestLaunchTemplateData) {
			in.TagSpecifications[0].Tags[0].Key = aws.String("aws:name")
		},
		"a name too long": func(in *ec2.CreateLaunchTemplateInput, _ *types.RequestLaunchTemplateData) {
			in.LaunchTemplateName = aws.String(strings.Repeat("n", 129))
		},
		"a profile by two names": func(_ *ec2.CreateLaunchTemplateInput, d *types.RequestLaunchTemplateData) {
			d.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: aws.String("a"), Arn: aws.String("arn:aws:iam::1:a")}
		},
		"one-time spot that stops": func(_ *ec2.CreateLaunchTemplateInput, d *types.RequestLaunchTemplateData) {
			d.TagSpecifications = append(d.TagSpecifications, types.LaunchTemplateTagSpecificationRequest{
				ResourceType: types.ResourceTypeSpotInstancesRequest, Tags: tagged("")[0].Tags,
			})
			d.InstanceMarketOptions = &types.LaunchTemplateInstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot,
				SpotOptions: &types.LaunchTemplateSpotMarketOptionsRequest{InstanceInterruptionBehavior: types.InstanceInterruptionBehaviorStop}}
		},
	} {
		in := s.template()
		change(in, in.LaunchTemplateData)
		_, err := s.CreateLaunchTemplate(t.Context(), in)
		if wrong := s.cloud.Wrong(); code(err) != "ValidationException" || len(wrong) != 1 {
			t.Errorf("%s: %v, noted as %q", name, err, wrong)
		}
	}
	if _, err := s.CreateLaunchTemplate(t.Context(), s.template()); err != nil {
		t.Fatal(err)
	}
	s.checkRuns(t)
}

// checkRuns tries what depends on an instance's state.
func (s *strict) checkRuns(t *testing.T) {
	run := func(change func(*ec2.RunInstancesInput)) (id string, err error) {
		in := &ec2.RunInstancesInput{
			ClientToken: aws.String("a-token"), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("a-template"), Version: aws.String("1")},
		}
		change(in)
		out, err := s.RunInstances(t.Context(), in)
		if err != nil {
			return "", err
		}
		return aws.ToString(out.Instances[0].InstanceId), nil
	}
	same := func(*ec2.RunInstancesInput) {}
	id, err := run(same)
	if again, err2 := run(same); err != nil || err2 != nil || again != id {
		t.Fatalf("with one token %s and %s are run, %v, %v", id, again, err, err2)
	}
	stop := func() error {
		_, err := s.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}})
		return err
	}
	got := map[string]string{"stopped while pending": code(stop())}
	_, err = run(func(in *ec2.RunInstancesInput) { in.LaunchTemplate.LaunchTemplateName = aws.String("another") })
	got["of another template"] = code(err)
	_, err = run(func(in *ec2.RunInstancesInput) { in.SubnetId = aws.String("subnet-1") })
	got["another with the token"] = code(err)
	_, err = s.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: s.group})
	got["its group deleted"] = code(err)
	if _, err := s.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}}); err != nil || stop() != nil {
		t.Errorf("stopping: %v, %v", err, stop())
	}
	if _, err := s.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Error(err)
	}
	_, err = run(same)
	got["of a token that has ended"] = code(err)
	want := map[string]string{
		"stopped while pending": "IncorrectInstanceState", "of another template": "InvalidLaunchTemplateName.NotFoundException",
		"another with the token": "IdempotentParameterMismatch", "its group deleted": "DependencyViolation",
		"of a token that has ended": "IdempotentInstanceTerminated",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if wrong := s.cloud.Wrong(); !slices.Equal(wrong, []string{"ec2:RunInstances: The client token was used for another request"}) {
		t.Errorf("noted: %q", wrong)
	}
	if _, err := s.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: s.group}); err != nil {
		t.Error(err)
	}
}
