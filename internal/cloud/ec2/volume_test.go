//go:build e2e

package ec2

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/cloud/ec2/ec2test"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// volumesSpec is the spec of an instance with volumes.
func volumesSpec(id string, volumes ...hypervisor.Volume) *hypervisor.RemoteSpec {
	spec := webSpec()
	spec.ID, spec.Name, spec.Cloud.Volumes, spec.Cloud.Type = id, "db"+id[11:], volumes, "t3.nano"
	return spec
}

// volumeNames are the volumes that there are, with how many instances each has.
func volumeNames(t *testing.T, d *Driver) []string {
	t.Helper()
	list, err := d.Volumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range list {
		names = append(names, fmt.Sprintf("%s %s %d GiB, %d", v.Place, v.Name, v.Size>>30, len(v.Users)))
	}
	slices.Sort(names)
	return names
}

// TestVolumes: volumes outlive the instances that use them, one after the other,
// each of which is put where the volume is.
func TestVolumes(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	c := connect(t, cloud, "eu-central-1", t.TempDir())
	d := New(Options{Version: "test", State: t.TempDir()})
	ctx := t.Context()
	data, logs := hypervisor.Volume{Name: "data", Size: 20 << 30, Target: "/data"}, hypervisor.Volume{Name: "logs", Target: "/logs"}
	first, err := remotetest.Created(t, d, volumesSpec("000000000001", data, logs))
	if err == nil {
		err = d.Start(ctx, first)
	}
	if err != nil {
		t.Fatal(err)
	}
	attached := []string{"eu-central-1 data 20 GiB, 1", "eu-central-1 logs 10 GiB, 1"}
	if got := volumeNames(t, d); !slices.Equal(got, attached) {
		t.Errorf("volumes: %q", got)
	}
	list, err := d.Volumes(ctx)
	if err == nil {
		err = d.RemoveVolume(ctx, list[0])
	}
	if err == nil || !strings.Contains(err.Error(), "is currently attached") {
		t.Errorf("removing it in use: %v", err)
	}
	all, err := d.List(ctx)
	if err != nil || !slices.ContainsFunc(all, func(r hypervisor.Resource) bool { return r.Kind == "volume" && r.Name == "data" }) {
		t.Errorf("List has %+v, %v", all, err)
	}
	h, _ := parseHandle(first)
	volumes, err := c.volumes(ctx, filter("volume-id", h.Volumes...))
	if err != nil || len(volumes) != 2 || tagValue(volumes[0].Tags, tagMadeFor) != "" {
		t.Errorf("%+v, %v", volumes, err)
	}
	zone := aws.ToString(volumes[0].AvailabilityZone)

	other := elsewhere(t, c, zone)
	for name, one := range map[string]struct {
		spec      *hypervisor.RemoteSpec
		say, hint string
	}{
		"in use":          {volumesSpec("000000000002", data), "the volume data is attached to the instance db1", "capstan rm db1"},
		"of another size": {volumesSpec("000000000002", hypervisor.Volume{Name: "data", Size: 30 << 30, Target: "/d"}), "is there already, with 20 GiB", "modify-volume"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := remotetest.Created(t, d, one.spec)
			var hinted interface{ Hint() string }
			if err == nil || !strings.Contains(err.Error(), one.say) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), one.hint) || h != nil {
				t.Errorf("%s, %v", h, err)
			}
		})
	}
	group := volumesSpec("000000000002", data)
	group.Replicas = 2
	if _, err := remotetest.Created(t, d, group); err == nil || !strings.Contains(err.Error(), "to the machines of a group") {
		t.Errorf("a group: %v", err)
	}

	// Stopped and started, it has them still.
	if err := errors.Join(d.Stop(ctx, first, time.Minute), d.Start(ctx, first)); err != nil {
		t.Fatal(err)
	}
	if got := volumeNames(t, d); !slices.Equal(got, attached) {
		t.Errorf("after stop and start: %q", got)
	}
	if err := d.Remove(ctx, first); err != nil {
		t.Fatal(err)
	}
	checkRemoved(t, c, "000000000001")
	free := []string{"eu-central-1 data 20 GiB, 0", "eu-central-1 logs 10 GiB, 0"}
	if got := volumeNames(t, d); !slices.Equal(got, free) {
		t.Errorf("after the instance: %q", got)
	}

	misplaced := volumesSpec("000000000003", data)
	misplaced.Cloud.Subnet = other
	if _, err := remotetest.Created(t, d, misplaced); err == nil || !strings.Contains(err.Error(), "the volume data is in "+zone+", and the subnet "+other+" is not") {
		t.Errorf("in another zone: %v", err)
	}
	cloud.Forget()
	data.Size, data.ReadOnly = 0, true
	second, err := remotetest.Created(t, d, volumesSpec("000000000004", data, logs))
	var twin hypervisor.Handle // made while the volume was free
	if err == nil {
		twin, err = remotetest.Created(t, d, volumesSpec("000000000006", data))
	}
	if err == nil {
		err = d.Start(ctx, second)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(ctx, twin); err == nil || !strings.Contains(err.Error(), "the volume data is attached to the instance db4") || cloud.Calls()["ec2:RunInstances"] != 1 {
		t.Errorf("started with a volume in use: %v, after %v", err, cloud.Calls())
	}
	if err := d.Remove(ctx, twin); err != nil {
		t.Error(err)
	}
	if calls := cloud.Calls(); calls["ec2:CreateVolume"]+calls["ebs:StartSnapshot"] > 0 || calls["ec2:AttachVolume"] != 2 {
		t.Errorf("for volumes that are there: %v", calls)
	}
	if err := d.Remove(ctx, second); err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if err := errors.Join(d.RemoveVolume(ctx, v), d.RemoveVolume(ctx, v)); err != nil {
			t.Error(err)
		}
	}
	// What is deleted is listed for a while, and is not the volume any more.
	third, err := remotetest.Created(t, d, volumesSpec("000000000005", data))
	if err != nil {
		t.Fatal(err)
	}
	if got := volumeNames(t, d); !slices.Equal(got, []string{"eu-central-1 data 10 GiB, 0"}) {
		t.Errorf("after the volumes: %q", got)
	}
	if err := d.Remove(ctx, third); err != nil {
		t.Error(err)
	}
	failed := wanted{Volume: data, have: &types.Volume{VolumeId: aws.String("vol-1"), State: types.VolumeStateError}}
	if err := c.usable(ctx, failed); err == nil || !strings.Contains(err.Error(), "the volume data is lost") {
		t.Errorf("one that has failed: %v", err)
	}
	if left := cloud.Instances(t, "eu-central-1"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// elsewhere is a default subnet of another zone.
func elsewhere(t *testing.T, c *Client, zone string) string {
	t.Helper()
	for _, s := range must(c.describeSubnets(t.Context(), "")) {
		if aws.ToString(s.AvailabilityZone) != zone {
			return aws.ToString(s.SubnetId)
		}
	}
	t.Fatal("there is one zone only")
	return ""
}

// TestVolumesCut: whichever call is the last before an interrupt, a volume that
// no instance was about to have is removed.
func TestVolumesCut(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	c := connect(t, cloud, "eu-central-1", t.TempDir())
	d := New(Options{Version: "test", State: t.TempDir()})
	data := hypervisor.Volume{Name: "data", Target: "/data"}
	h, err := remotetest.Created(t, d, volumesSpec("0000000000fe", data)) // the image and the empty snapshot stay
	if err == nil {
		err = d.Remove(t.Context(), h)
	}
	if err != nil {
		t.Fatal(err)
	}
	last := 1
	for whole := false; !whole; last++ {
		spec := volumesSpec(fmt.Sprintf("%012x", last), data)
		whole = cutAt(t, cloud, d, spec, last)
		checkRemoved(t, c, spec.ID)
		// Only one that the instance was about to have stays.
		for _, v := range must(d.Volumes(t.Context())) {
			list := must(c.volumes(t.Context(), filter("volume-id", v.ID)))
			if len(list) > 0 && tagValue(list[0].Tags, tagMadeFor) != "" {
				t.Errorf("after call %d there is %+v", last, v)
			}
			if err := d.RemoveVolume(t.Context(), v); err != nil {
				t.Error(err)
			}
		}
	}
	if last < 12 {
		t.Errorf("it takes %d calls only", last)
	}
	// An answer that is lost does no harm.
	lost := map[string]bool{"ec2:CreateVolume": true, "ec2:DeleteTags": true, "ec2:AttachVolume": true}
	cloud.Fail(func(call string) ec2test.Fault {
		if lost[call] {
			delete(lost, call)
			return ec2test.Lost
		}
		return ec2test.None
	})
	h, err = remotetest.Created(t, d, volumesSpec("0000000000ff", data))
	if err == nil {
		err = d.Start(t.Context(), h)
	}
	if got := volumeNames(t, d); err != nil || len(lost) > 0 || !slices.Equal(got, []string{"eu-central-1 data 10 GiB, 1"}) {
		t.Errorf("%q, %v, without %v", got, err, lost)
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Error(err)
	}
}

// TestRehearseVolumes: the calls for volumes are told, and none is made.
func TestRehearseVolumes(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	connect(t, cloud, "eu-central-1", t.TempDir())
	var told []string
	r := New(Options{Version: "test", State: t.TempDir()}).Rehearse(func(call string) { told = append(told, call) })
	h, err := remotetest.Created(t, r, volumesSpec("000000000001", hypervisor.Volume{Name: "data", Size: 1 << 30, Target: "/data"}))
	if err == nil {
		err = r.Start(t.Context(), h)
	}
	all := strings.Join(told, "\n")
	for _, call := range []string{"ec2 CreateVolume {", `"Size":1,`, "ec2 AttachVolume {", `"Device":"/dev/sdf"`} {
		if !strings.Contains(all, call) {
			t.Errorf("nothing of %s", call)
		}
	}
	for _, call := range cloud.Actions() {
		if _, name, _ := strings.Cut(call, ":"); !reads(name) {
			t.Errorf("a rehearsal made %s", call)
		}
	}
	if err != nil {
		t.Errorf("%v, after\n%s", err, all)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
