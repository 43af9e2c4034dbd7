//go:build e2e

package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/guest/api"
	"capstan/internal/cloud/ec2/ec2test"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// webSpec is a machine's that serves.
func webSpec() *hypervisor.RemoteSpec {
	_, p := content(9, 3)
	return &hypervisor.RemoteSpec{
		ID: "0123456789ab", Name: "suite", Image: "suite:latest", Digest: p.Digest,
		Guest:  api.Config{Version: api.Version, Args: []string{"app"}, Env: []string{"PASSWORD=secret"}},
		Memory: 512 << 20, CPUs: 1,
		Ports: []hypervisor.Port{{Guest: 6379, Protocol: "tcp"}},
		Cloud: hypervisor.CloudSpec{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		ImageDisk: func(int64) (hypervisor.BootDisk, error) {
			return hypervisor.BootDisk{ID: p.Disk, Size: p.Size, Write: p.Write}, nil
		},
	}
}

// checkRemoved fails if there is anything left of an instance.
func checkRemoved(t *testing.T, c *Client, id string) {
	t.Helper()
	instances, err1 := c.instances(t.Context(), c.owned(id))
	for n := range instances {
		if !isEnded(&instances[n]) {
			t.Errorf("left: %s, %s", *instances[n].InstanceId, stateOf(&instances[n]))
		}
	}
	groups, err2 := c.securityGroups(t.Context(), c.owned(id))
	templates, err3 := c.templates(t.Context(), c.owned(id))
	_, err4 := c.group(t.Context(), handle{ID: id})
	if err := errors.Join(err1, err2, err3); err != nil || len(groups)+len(templates) > 0 || !errors.Is(err4, hypervisor.ErrGone) {
		t.Errorf("left: %+v, %+v, a group: %v; %v", groups, templates, err4, err)
	}
}

// TestInstance: an instance's life by the calls alone; nothing of it boots.
// What is removed by its handle leaves nothing.
func TestInstance(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	c := connect(t, cloud, "eu-central-1", t.TempDir())
	spec := webSpec()
	spec.Cloud.Spot, spec.Cloud.Identity = true, ec2test.Profile
	d := New(Options{Version: "test", State: t.TempDir()})
	ctx := t.Context()
	h, err := remotetest.Created(t, d, spec)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := d.Status(ctx, h); err != nil || now.On {
		t.Errorf("made: %+v, %v", now, err)
	}
	for range 2 {
		if err := d.Start(ctx, h); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := d.Status(ctx, h); err != nil || !now.On || !now.Address.IsValid() {
		t.Errorf("started: %+v, %v", now, err)
	}
	checkList(t, c, spec)
	list, err := c.instances(ctx, c.owned(spec.ID))
	if err != nil || len(list) != 1 || string(list[0].InstanceType) != "t3.nano" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := d.Stop(ctx, h, time.Minute); err != nil {
		t.Error(err)
	}
	if now, err := d.Status(ctx, h); err != nil || now.On {
		t.Errorf("stopped: %+v, %v", now, err)
	}
	for range 2 {
		if err := d.Remove(ctx, h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Status(ctx, h); !errors.Is(err, hypervisor.ErrGone) {
		t.Errorf("removed: %v", err)
	}
	checkRemoved(t, c, spec.ID)
	long := *spec
	long.Guest.Env = []string{"LONG=" + strings.Repeat("x", maxUserData)}
	if _, err := remotetest.Created(t, d, &long); err == nil || !strings.Contains(err.Error(), "no more than 16384") {
		t.Errorf("too long a config: %v", err)
	}
}

// checkList looks at what is told of a machine that is on, a group and a
// volume.
func checkList(t *testing.T, c *Client, spec *hypervisor.RemoteSpec) {
	t.Helper()
	group := webSpec()
	group.ID, group.Replicas = "0123456789cd", 2
	maker := New(Options{Region: c.Region(), Version: "test", State: t.TempDir()})
	h, err := remotetest.Created(t, maker, group)
	if err != nil {
		t.Fatal(err)
	}
	volume, err := c.ec2().CreateVolume(t.Context(), &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(c.Region() + "a"), Size: aws.Int32(1),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeVolume, Tags: c.instanceTags(spec)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		must(c.volumes(t.Context(), ours())) // it is made by then
		_, err := c.ec2().DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: volume.VolumeId})
		if err := errors.Join(err, maker.Remove(t.Context(), h)); err != nil {
			t.Fatal(err)
		}
	}()
	d := New(Options{Regions: []string{"eu-west-3", c.Region()}})
	list, err := d.List(t.Context())
	var kinds []string
	for _, r := range list {
		kinds = append(kinds, r.Kind)
		own := r.Kind != "image" && r.Kind != "snapshot"
		if r.Place != c.Region() || r.ID == "" || r.Image != spec.Image || own && r.Instance != spec.ID && r.Instance != group.ID || r.Created.IsZero() ||
			r.Kind == "instance" && (r.Address == "" || r.Status != "running" || r.Name != spec.Name) {
			t.Errorf("%+v", r)
		}
	}
	slices.Sort(kinds)
	want := []string{"auto-scaling-group", "image", "instance", "launch-template", "security-group", "snapshot", "spot-instances-request", "volume"}
	if kinds = slices.Compact(kinds); err != nil || !slices.Equal(kinds, want) {
		t.Errorf("%q, %v", kinds, err)
	}
	shut := errors.New("the region is not enabled")
	list, err = d.everywhere(t.Context(), func(c *Client, ctx context.Context) ([]hypervisor.Resource, error) {
		if c.Region() == "eu-west-3" {
			return nil, shut
		}
		return c.listInstances(ctx)
	})
	if len(list) != 1 || !errors.Is(err, shut) || !strings.Contains(err.Error(), "eu-west-3: ") {
		t.Errorf("beside a region that fails: %+v, %v", list, err)
	}
}

// TestCut: whichever call is the last before an interrupt, of a making and a
// start, what there is by then is removed by what was kept.
func TestCut(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	c := connect(t, cloud, "eu-central-1", t.TempDir())
	d := New(Options{Version: "test", State: t.TempDir()})
	for name, replicas := range map[string]int{"instance": 0, "group": 2} {
		t.Run(name, func(t *testing.T) {
			spec := webSpec()
			spec.Cloud.Type, spec.Replicas = "t3.nano", replicas
			spec.ID = fmt.Sprintf("%012x", replicas)
			h, err := remotetest.Created(t, d, spec) // the image stays
			if err == nil {
				err = d.Remove(t.Context(), h)
			}
			if err != nil {
				t.Fatal(err)
			}
			last := 1
			for whole := false; !whole; last++ {
				spec.ID = fmt.Sprintf("%06x%06x", replicas, last) // what has ended is listed for a while
				whole = cutAt(t, cloud, d, spec, last)
				checkRemoved(t, c, spec.ID)
			}
			if last < 7 {
				t.Errorf("it takes %d calls only", last)
			}
		})
	}
}

// cutAt makes and starts a machine until a call, and removes what there
// is then. It tells whether that was all.
func cutAt(t *testing.T, cloud *ec2test.Cloud, d *Driver, spec *hypervisor.RemoteSpec, last int) (whole bool) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	calls := 0
	cloud.Fail(func(string) ec2test.Fault {
		if calls++; calls == last {
			interrupt()
		}
		return ec2test.None
	})
	var h hypervisor.Handle
	err := d.Create(ctx, spec, func(now hypervisor.Handle) error { h = now; return nil })
	if err == nil && spec.Replicas > 0 {
		err = d.Scale(ctx, h, spec.Replicas)
	} else if err == nil {
		err = d.Start(ctx, h)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted at call %d: %v", last, err)
	}
	cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
	if h != nil {
		if err := d.Remove(t.Context(), h); err != nil {
			t.Fatalf("after call %d: %v", last, err)
		}
	}
	return ctx.Err() == nil
}

// readsOnly tells what a rehearsal says of a call that changes nothing.
func readsOnly(told string) bool {
	call, _, _ := strings.Cut(told, " {")
	return reads(call[strings.LastIndex(call, " ")+1:])
}

// tells tells whether a rehearsal says something that begins so.
func tells(told []string, prefix string) bool {
	return slices.ContainsFunc(told, func(call string) bool { return strings.HasPrefix(call, prefix) })
}

// lengthOnly is how user-data is told of.
var lengthOnly = regexp.MustCompile(`"UserData":"\d+ characters"`)

// TestRehearse: a rehearsal tells of all that would be made, without what is
// in the environment, and makes nothing.
func TestRehearse(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	connect(t, cloud, "eu-central-1", t.TempDir())
	var told []string
	var d hypervisor.Rehearser = New(Options{Version: "test", State: t.TempDir()})
	r := d.Rehearse(func(call string) { told = append(told, call) })
	for replicas, last := range map[int]string{0: "ec2 RunInstances {", 2: "auto scaling UpdateAutoScalingGroup {"} {
		told = nil
		cloud.Forget()
		spec := webSpec()
		spec.Replicas = replicas
		h, err := remotetest.Created(t, r, spec)
		if err == nil && replicas > 0 {
			err = r.(hypervisor.Scaler).Scale(t.Context(), h, replicas)
		} else if err == nil {
			err = r.Start(t.Context(), h)
		}
		want := []string{"ebs StartSnapshot {", "ebs PutSnapshotBlock, ", "ebs CompleteSnapshot {", "ec2 RegisterImage {",
			"ec2 CreateSecurityGroup {", "ec2 AuthorizeSecurityGroupIngress {", "ec2 CreateLaunchTemplate {", last}
		if replicas > 0 {
			want = slices.Insert(want, len(want)-1, "auto scaling CreateAutoScalingGroup {")
		}
		if !tells(told, "ec2 DescribeImages {") || !tells(told, "ec2 DescribeVpcs {") {
			t.Errorf("nothing tells of calls that read: %q", told)
		}
		if told = slices.DeleteFunc(told, readsOnly); err != nil || len(told) != len(want) {
			t.Fatalf("%q, %v", told, err)
		}
		for n, call := range told {
			if !strings.HasPrefix(call, want[n]) || strings.Contains(call, "secret") {
				t.Errorf("%q and not %q", call, want[n])
			}
		}
		if !lengthOnly.MatchString(told[6]) || !strings.Contains(told[6], "ami-dryrun") || !strings.Contains(told[5], "192.0.2.0/24") {
			t.Errorf("%q", told)
		}
		for _, call := range cloud.Actions() {
			if _, name, _ := strings.Cut(call, ":"); !reads(name) {
				t.Errorf("a rehearsal made %s", call)
			}
		}
	}
}
