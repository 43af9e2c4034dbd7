//go:build e2e

package ec2

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/cloud/ec2/ec2test"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// testGroup is the life of a group. What is not answered, or fails for a
// while, is done again, and done once; what may be done twice is.
func testGroup(t *testing.T, cloud *ec2test.Cloud, region string) {
	c := connect(t, cloud, region, t.TempDir())
	d := New(Options{Region: region, Version: "test", State: t.TempDir()})
	spec := webSpec()
	spec.Replicas, spec.Cloud.Spot = 3, true
	n := 0
	cloud.Fail(func(string) ec2test.Fault {
		n++
		return []ec2test.Fault{ec2test.None, ec2test.Throttle, ec2test.Lost, ec2test.None, ec2test.Broken, ec2test.Cut}[n%6]
	})
	defer cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
	h, err := remotetest.Created(t, d, spec)
	if err != nil {
		t.Fatal(err)
	}
	checkGroup(t, c, h)
	twice := func(what string, do func() error) {
		t.Helper()
		for range 2 {
			if err := do(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	checkMembers(t, d, h, 0)
	for _, n := range []int{3, 1, 2} {
		twice("scaling", func() error { return d.Scale(t.Context(), h, n) })
		checkMembers(t, d, h, n)
	}
	twice("stopping", func() error { return d.Stop(t.Context(), h, 0) })
	checkMembers(t, d, h, 0)
	if err := d.Scale(t.Context(), h, 2); err != nil {
		t.Fatal(err)
	}
	twice("removing", func() error { return d.Remove(t.Context(), h) })
	if _, err := d.Status(t.Context(), h); !errors.Is(err, hypervisor.ErrGone) {
		t.Errorf("removed: %v", err)
	}
	if err := d.Scale(t.Context(), h, 1); !errors.Is(err, hypervisor.ErrGone) {
		t.Errorf("what is gone was scaled: %v", err)
	}
	checkRemoved(t, c, spec.ID)
}

// checkGroup looks at what Auto Scaling is told.
func checkGroup(t *testing.T, c *Client, doc hypervisor.Handle) {
	t.Helper()
	h, err := parseHandle(doc)
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.group(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for _, one := range g.Tags {
		tags[aws.ToString(one.Key)] = aws.ToString(one.Value)
	}
	want := map[string]string{}
	for _, one := range c.instanceTags(webSpec()) {
		want[aws.ToString(one.Key)] = aws.ToString(one.Value)
	}
	if !maps.Equal(tags, want) {
		t.Errorf("the group has the tags %v", tags)
	}
	if spread := strings.Split(aws.ToString(g.VPCZoneIdentifier), ","); len(spread) < 2 {
		t.Errorf("the group is in the subnets %q", spread)
	}
	out, err := c.ec2().DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: aws.String(h.name())})
	if err != nil || len(out.LaunchTemplateVersions) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	made := out.LaunchTemplateVersions[0].LaunchTemplateData
	if made.InstanceInitiatedShutdownBehavior != types.ShutdownBehaviorTerminate ||
		made.InstanceMarketOptions == nil || made.InstanceMarketOptions.SpotOptions.SpotInstanceType != types.SpotInstanceTypeOneTime {
		t.Errorf("the template is %+v", made)
	}
}

// checkMembers compares a group with how many instances it is to have, all of
// which are there and say something.
func checkMembers(t *testing.T, d *Driver, h hypervisor.Handle, want int) {
	t.Helper()
	now, err := d.Status(t.Context(), h)
	if err != nil || now.On != (want > 0) || now.Replicas != want || len(now.Members) != want || now.Trouble != "" {
		t.Fatalf("%d wanted: %+v, %v", want, now, err)
	}
	for _, m := range now.Members {
		if m.ID == "" || m.Status != "InService" || !m.On || !m.Address.IsValid() {
			t.Errorf("a member is %+v", m)
		}
		r, err := d.Console(t.Context(), h, hypervisor.ConsolePart{Member: m.ID})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err != nil {
			t.Errorf("%s said: %v", m.ID, err)
		}
	}
}

// testStarved: of a group that launches no instances the reason is told, as long
// as it has fewer than it is to have.
func testStarved(t *testing.T, cloud *ec2test.Cloud, region string) {
	connect(t, cloud, region, t.TempDir())
	d := New(Options{Region: region, Version: "test", State: t.TempDir()})
	spec := webSpec()
	spec.Replicas = 3
	h, err := remotetest.Created(t, d, spec)
	if err == nil {
		err = d.Scale(t.Context(), h, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	const reason = "We currently do not have sufficient t3.nano capacity."
	cloud.Starve(reason)
	if err := d.Scale(t.Context(), h, 3); err != nil {
		t.Fatal(err)
	}
	if now, err := d.Status(t.Context(), h); err != nil || !now.On || now.Replicas != 3 || len(now.Members) != 1 || now.Trouble != reason {
		t.Errorf("starved: %+v, %v", now, err)
	}
	cloud.Fail(func(call string) ec2test.Fault {
		if call == "autoscaling:DescribeScalingActivities" {
			return ec2test.Forbidden
		}
		return ec2test.None
	})
	if now, err := d.Status(t.Context(), h); err != nil || len(now.Members) != 1 || now.Trouble != "" {
		t.Errorf("who may not ask why: %+v, %v", now, err)
	}
	cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
	cloud.Starve("")
	checkMembers(t, d, h, 3)
	cloud.Starve(reason)
	if err := d.Scale(t.Context(), h, 4); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(t.Context(), h, 0); err != nil {
		t.Fatal(err)
	}
	if now, err := d.Status(t.Context(), h); err != nil || now.On || now.Trouble != "" {
		t.Errorf("stopped: %+v, %v", now, err)
	}
	cloud.Starve("")
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

// testSubnets: a group is in the subnet that is chosen, or in all default ones
// that have the instance type.
func testSubnets(t *testing.T, cloud *ec2test.Cloud, region string) {
	c := connect(t, cloud, region, t.TempDir())
	all, err := c.subnets(t.Context(), "", "t3.nano")
	if err != nil || len(all) < 2 {
		t.Errorf("the default subnets are %q, %v", all, err)
	}
	if one, err := c.subnets(t.Context(), "subnet-1", "t3.nano"); err != nil || !slices.Equal(one, []string{"subnet-1"}) {
		t.Errorf("the chosen subnet is %q, %v", one, err)
	}
	var hinted interface{ Hint() string }
	if none, err := c.subnets(t.Context(), "", "e9.huge"); !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--type") {
		t.Errorf("the subnets of a type that there is not are %q, %v", none, err)
	}
}
