//go:build e2e

package ec2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/cloud/ec2/ec2test"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// TestCloud is of pushes to a cloud. Each has a region of its own.
func TestCloud(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	for region, test := range map[string]func(*testing.T, *ec2test.Cloud, string){
		"eu-central-1": testPush, "us-east-1": testDryRun, "us-west-2": testFaults, "eu-west-1": testResume, "eu-south-1": testPrune,
		"eu-north-1": testGroup, "ap-south-1": testSubnets, "us-west-1": testStarved,
		"us-east-2": testShare,
	} {
		t.Run(region, func(t *testing.T) { test(t, cloud, region) })
	}
}

// connect opens a client of a cloud.
func connect(t *testing.T, cloud *ec2test.Cloud, region, state string) *Client {
	t.Helper()
	for _, v := range cloud.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	c, err := Open(t.Context(), Options{Region: region, Version: "test", State: state, Progress: func(string, int64, int64) {}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// content is a disk of 1 GiB: blocks of chance here and there, in pieces of
// odd lengths, and its last bytes.
func content(seed uint64, blocks int) (disk map[int64][]byte, push *Push) {
	r := rand.New(rand.NewPCG(seed, 1))
	disk = map[int64][]byte{}
	chance := rand.NewChaCha8([32]byte{byte(seed)})
	put := func(at int64, n int) {
		b := make([]byte, n)
		chance.Read(b)
		disk[at] = b
	}
	for i := range blocks {
		put(int64(i*7)*blockSize+r.Int64N(1000), blockSize/2+r.IntN(blockSize))
	}
	put(1<<30-33, 33)
	order := make([]int64, 0, len(disk))
	for at := range disk {
		order = append(order, at)
	}
	slices.Sort(order)
	id := sha256.Sum256(fmt.Append(nil, "disk", seed))
	return disk, &Push{
		Name: "app", Image: "example.org/app:1", Digest: "sha256:" + strings.Repeat("ab", 32),
		Disk: hex.EncodeToString(id[:]), Arch: "amd64", Size: 1 << 30,
		Write: func(ctx context.Context, w io.WriterAt) error {
			for _, at := range order {
				if _, err := w.WriteAt(disk[at], at); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// readBack compares a snapshot, read through the API, with a disk.
func readBack(t *testing.T, c *Client, snapshot string, disk map[int64][]byte) {
	t.Helper()
	got := map[int32][]byte{}
	var token *string
	for {
		list, err := c.ebs().ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &snapshot, NextToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list.Blocks {
			out, err := c.ebs().GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &snapshot, BlockIndex: b.BlockIndex, BlockToken: b.BlockToken})
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(out.BlockData)
			if err != nil {
				t.Fatal(err)
			}
			got[*b.BlockIndex] = data
		}
		if token = list.NextToken; aws.ToString(token) == "" {
			break
		}
	}
	want := map[int32][]byte{}
	for at, b := range disk {
		for i, v := range b {
			index := int32((at + int64(i)) / blockSize)
			if want[index] == nil {
				want[index] = make([]byte, blockSize)
			}
			want[index][(at+int64(i))%blockSize] = v
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d blocks, not %d", len(got), len(want))
	}
	for index, b := range want {
		if !bytes.Equal(got[index], b) {
			t.Errorf("block %d is not what went in", index)
		}
	}
}

// nothingLeft checks that the account has the images and nothing beside them,
// and this host no state.
func nothingLeft(t *testing.T, c *Client, images ...Image) {
	t.Helper()
	ids := map[string]bool{}
	for _, img := range images {
		ids[img.ID], ids[img.Snapshot] = true, true
	}
	snapshots, err := c.snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range snapshots {
		if strings.HasPrefix(aws.ToString(s.Description), "Auto-created snapshot for AMI ami-") {
			continue // moto's own
		}
		if !ids[*s.SnapshotId] || len(s.Tags) != 5 || s.State != types.SnapshotStateCompleted {
			t.Errorf("snapshot %s (%s) is left, with tags %v", *s.SnapshotId, s.State, s.Tags)
		}
		delete(ids, *s.SnapshotId)
	}
	list, err := c.images(t.Context(), &ec2.DescribeImagesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if !ids[*i.ImageId] || len(i.Tags) != 5 {
			t.Errorf("image %s is left, with tags %v", *i.ImageId, i.Tags)
		}
		delete(ids, *i.ImageId)
	}
	if len(ids) > 0 {
		t.Errorf("the account has no %v", ids)
	}
	files, err := os.ReadDir(c.opts.State)
	files = slices.DeleteFunc(files, func(f os.DirEntry) bool { return filepath.Ext(f.Name()) == ".made" }) // until the next push
	if err != nil || len(files) > 0 {
		t.Errorf("left in the state's folder: %v, %v", files, err)
	}
}

// testPush: what is pushed is what is read back; pushed again, nothing is
// sent; another name and other regions take the same snapshot.
func testPush(t *testing.T, cloud *ec2test.Cloud, region string) {
	t.Cleanup(func() { cloud.Fail(func(string) ec2test.Fault { return ec2test.None }) })
	cloud.Forget()
	c := connect(t, cloud, region, t.TempDir())
	disk, p := content(1, 60)
	first, err := c.Push(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	readBack(t, c, first.Snapshot, disk)
	nothingLeft(t, c, first)

	cloud.Forget()
	again, err := c.Push(t.Context(), p)
	if err != nil || !again.Found || again.ID != first.ID || again.Snapshot != first.Snapshot || again.Sent != 0 {
		t.Errorf("pushed again: %+v, %v; at first %+v", again, err, first)
	}
	if got := cloud.Actions(); !slices.Equal(got, []string{"ec2:DescribeImages"}) {
		t.Errorf("pushing again takes %v", got)
	}

	named := *p
	named.Name = "other"
	other, err := c.Push(t.Context(), &named)
	if err != nil || other.Found || other.ID == first.ID || other.Snapshot != first.Snapshot || other.Sent != 0 {
		t.Errorf("by another name: %+v, %v", other, err)
	}
	nothingLeft(t, c, first, other)

	copied, err := c.Copy(t.Context(), p, first, "eu-north-1")
	if err != nil || copied.Region != "eu-north-1" || copied.Found {
		t.Errorf("copied: %+v, %v", copied, err)
	}
	if twice, err := c.Copy(t.Context(), p, first, "eu-north-1"); err != nil || twice.ID != copied.ID || !twice.Found {
		t.Errorf("copied again: %+v, %v", twice, err)
	}
	if err := c.Share(t.Context(), first, []string{"123456789013"}, true); err != nil {
		t.Error(err)
	}
	out, err := c.ec2().DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: &first.ID, Attribute: types.ImageAttributeNameLaunchPermission})
	if err != nil || len(out.LaunchPermissions) != 2 {
		t.Errorf("permissions: %+v, %v", out, err)
	}
}

// testDryRun: all calls are told, and none is made that changes something.
func testDryRun(t *testing.T, cloud *ec2test.Cloud, region string) {
	t.Cleanup(func() { cloud.Fail(func(string) ec2test.Fault { return ec2test.None }) })
	cloud.Forget()
	c := connect(t, cloud, region, t.TempDir())
	var told []string
	c.opts.Would = func(call string) { told = append(told, call) }
	c = open(c.config, c.opts)
	_, p := content(2, 5)
	cloud.Forget()
	if _, err := c.Push(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	want := []string{"ec2 DescribeImages {", "ec2 DescribeSnapshots {", "ebs StartSnapshot {", "ebs PutSnapshotBlock, ", "ebs CompleteSnapshot {", "ec2 RegisterImage {"}
	if len(told) != len(want) {
		t.Fatalf("%q", told)
	}
	for i := range want {
		if !strings.HasPrefix(told[i], want[i]) {
			t.Errorf("%q and not %q", told[i], want[i])
		}
	}
	if got := cloud.Actions(); !slices.Equal(got, []string{"ec2:DescribeImages", "ec2:DescribeSnapshots"}) {
		t.Errorf("a dry run made %v", got)
	}
}

// testFaults: pushes come to their end through throttling of a third of the
// calls, bursts of errors, and 100 cuts before and after a call.
func testFaults(t *testing.T, cloud *ec2test.Cloud, region string) {
	c := connect(t, cloud, region, t.TempDir())
	r := rand.New(rand.NewPCG(3, 3))
	var n, cuts int
	faults := func(string) ec2test.Fault {
		n++
		switch {
		case n%3 == 0:
			return ec2test.Throttle
		case n%50 > 44:
			return ec2test.Broken
		case cuts < 100 && r.IntN(3) == 0:
			cuts++
			return []ec2test.Fault{ec2test.Cut, ec2test.Lost}[r.IntN(2)]
		}
		return ec2test.None
	}
	var images []Image
	for seed := uint64(100); cuts < 100; seed++ {
		disk, p := content(seed, 25)
		cloud.Fail(faults)
		img, err := c.Push(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
		readBack(t, c, img.Snapshot, disk)
		images = append(images, img)
	}
	t.Logf("%d calls, %d cuts, %d pushes", n, cuts, len(images))
	nothingLeft(t, c, images...)
}

// testResume: a push that ends at 100 random calls, whatever these are, is
// ended by the next, and what the cloud has confirmed is not sent again.
func testResume(t *testing.T, cloud *ec2test.Cloud, region string) {
	t.Cleanup(func() { cloud.Fail(func(string) ec2test.Fault { return ec2test.None }) })
	cloud.Forget()
	state := t.TempDir()
	disk, p := content(4, 60)
	r := rand.New(rand.NewPCG(4, 4))
	var img Image
	ends := 0
	for done := false; !done; {
		c := connect(t, cloud, region, state)
		ctx, end := context.WithCancel(t.Context())
		left := 1 + r.IntN(6)
		if ends == 100 {
			left = -1
		}
		cloud.Fail(func(string) ec2test.Fault {
			if left--; left == 0 {
				end()
			}
			return ec2test.None
		})
		var err error
		img, err = c.Push(ctx, p)
		done = err == nil
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		ends++
		end()
	}
	if ends < 50 {
		t.Errorf("it came to its end after %d ends", ends)
	}
	puts := cloud.Calls()["ebs:PutSnapshotBlock"]
	c := connect(t, cloud, region, state)
	readBack(t, c, img.Snapshot, disk)
	nothingLeft(t, c, img)
	t.Logf("%d ends, %d blocks sent in all", ends, puts)
	if blocks := 60*2 + 1; puts > blocks+ends*8 {
		t.Errorf("%d blocks were sent", puts)
	}
	if starts := cloud.Calls()["ebs:StartSnapshot"]; starts != 1 {
		t.Errorf("%d snapshots were started", starts)
	}
}

// testShare: copies to other regions, and sharing, come to their end through
// faults and interrupts at any call, and make one image in each region.
func testShare(t *testing.T, cloud *ec2test.Cloud, region string) {
	t.Cleanup(func() { cloud.Fail(func(string) ec2test.Fault { return ec2test.None }) })
	c := connect(t, cloud, region, t.TempDir())
	_, p := content(7, 3)
	img, err := c.Push(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	// shared copies and shares, once without an error or, where its end is
	// called, as often as that takes.
	shared := func(to string, fault func(end func()) ec2test.Fault) {
		t.Helper()
		for done := false; !done; {
			ctx, end := context.WithCancel(t.Context())
			cloud.Fail(func(string) ec2test.Fault { return fault(end) })
			copied, err := c.Copy(ctx, p, img, to)
			if err == nil {
				err = c.Share(ctx, copied, []string{"123456789013"}, true)
			}
			if err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
				t.Fatalf("to %s: %v", to, err)
			}
			done = err == nil
			end()
		}
		cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
		there := c.in(to)
		list, err := there.images(t.Context(), &ec2.DescribeImagesInput{})
		if err != nil || len(list) != 1 || len(list[0].Tags) != 5 {
			t.Fatalf("in %s there is %+v, %v", to, list, err)
		}
		out, err := there.ec2().DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: list[0].ImageId, Attribute: types.ImageAttributeNameLaunchPermission})
		if err != nil || len(out.LaunchPermissions) != 2 {
			t.Errorf("permissions: %+v, %v", out, err)
		}
	}
	for to, faults := range map[string][]ec2test.Fault{
		"ca-central-1": {ec2test.None, ec2test.None, ec2test.Throttle},
		"sa-east-1":    {ec2test.Broken, ec2test.Broken, ec2test.Broken, ec2test.None},
		"eu-west-2":    {ec2test.Lost, ec2test.None},
		"eu-west-3":    {ec2test.Cut, ec2test.Lost, ec2test.None},
	} {
		n := 0
		shared(to, func(func()) ec2test.Fault {
			n++
			return faults[(n-1)%len(faults)]
		})
	}
	n, next := 0, 1
	shared("ap-northeast-1", func(end func()) ec2test.Fault { // its first call, its first two, and so on
		if n++; n == next {
			n, next = 0, next+1
			end()
		}
		return ec2test.None
	})
}

// testPrune removes what a push has left that did not come to its end, and
// nothing else.
func testPrune(t *testing.T, cloud *ec2test.Cloud, region string) {
	t.Cleanup(func() { cloud.Fail(func(string) ec2test.Fault { return ec2test.None }) })
	cloud.Forget()
	c := connect(t, cloud, region, t.TempDir())
	_, p := content(5, 10)
	img, err := c.Push(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	_, other := content(6, 10)
	cut := func(c *Client, last string) {
		ctx, end := context.WithCancel(t.Context())
		cloud.Fail(func(call string) ec2test.Fault {
			if call == last {
				end()
			}
			return ec2test.None
		})
		if _, err := c.Push(ctx, other); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	there := connect(t, cloud, region, t.TempDir()) // another host, with a push of the same disk
	cut(there, "ebs:StartSnapshot")                 // its blocks would be among those of the next
	cut(c, "ebs:PutSnapshotBlock")
	cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
	for _, c := range []*Client{c, there} {
		removed, err := c.prune(t.Context(), false, time.Now().Add(-abandoned))
		if err != nil || len(removed) != 1 || removed[0].Kind != "snapshot" || removed[0].Place != region {
			t.Errorf("removed %v, %v", removed, err)
		}
	}
	nothingLeft(t, c, img)
	nothingLeft(t, there, img)
	pruneBusy(t, cloud, c, img, p.Disk)
	pruneInstances(t, c, img)
	pruneImages(t, c, img)
}

// pruneBusy: a snapshot stays that a process of this host is at, and one that an
// image is of by the time it is deleted. A state without a snapshot goes.
func pruneBusy(t *testing.T, cloud *ec2test.Cloud, c *Client, img Image, disk string) {
	t.Helper()
	st, err := c.lockState(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	late := time.Now().Add(time.Minute)
	cloud.Fail(func(call string) ec2test.Fault { // as if the image was not made yet
		if call == "ec2:DescribeImages" {
			return ec2test.Late
		}
		return ec2test.None
	})
	removed, err := c.prune(t.Context(), false, late)
	if err != nil || len(removed) > 0 {
		t.Errorf("removed what is in use: %+v, %v", removed, err)
	}
	if err := st.begin("token"); err != nil {
		t.Error(err)
	}
	st.close()
	if removed, err := c.prune(t.Context(), false, late); err != nil || len(removed) > 0 {
		t.Errorf("removed what an image is of: %+v, %v", removed, err)
	}
	cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
	nothingLeft(t, c, img)
}

// pruned are the kinds of what a pruning with all removes.
func pruned(t *testing.T, d *Driver) []string {
	t.Helper()
	removed, err := d.Prune(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, r := range removed {
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// pruneImages: an image goes, with its snapshot, once no template, no instance
// and no other account has a use for it.
func pruneImages(t *testing.T, c *Client, img Image) {
	t.Helper()
	d := New(Options{Region: c.Region(), Version: "test", State: c.opts.State})
	if err := c.Share(t.Context(), img, []string{"123456789013"}, false); err != nil {
		t.Fatal(err)
	}
	h, err := remotetest.Created(t, d, webSpec())
	if err == nil {
		err = d.Start(t.Context(), h)
	}
	if err != nil {
		t.Fatal(err)
	}
	if kinds := pruned(t, d); len(kinds) > 0 {
		t.Errorf("removed what is in use: %q", kinds)
	}
	parsed, err := parseHandle(h)
	if err == nil {
		err = c.removeTemplate(t.Context(), parsed)
	}
	if err != nil {
		t.Fatal(err)
	}
	if kinds := pruned(t, d); len(kinds) > 0 {
		t.Errorf("removed what an instance is of: %q", kinds)
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	elsewhere := New(Options{Region: c.Region(), Version: "test", State: t.TempDir()})
	if kinds := pruned(t, elsewhere); len(kinds) > 0 {
		t.Errorf("removed what another host has just made: %q", kinds)
	}
	later := elsewhere.Rehearse(func(string) {}).(*Driver)
	other, err := later.client(t.Context(), c.Region())
	if err == nil {
		err = other.identify(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for age, want := range map[time.Duration]int{59 * time.Minute: 0, 2 * time.Hour: 2} {
		if removed, err := other.prune(t.Context(), true, time.Now().Add(age-abandoned)); err != nil || len(removed) != want {
			t.Errorf("at the age of %v it would remove %+v, %v", age, removed, err)
		}
	}
	var told []string
	dry := d.Rehearse(func(call string) { told = append(told, call) })
	for _, d := range []*Driver{dry.(*Driver), d} {
		if kinds := pruned(t, d); !slices.Equal(kinds, []string{"image", "snapshot"}) {
			t.Errorf("removed %q", kinds)
		}
	}
	if told = slices.DeleteFunc(told, readsOnly); len(told) != 2 || !strings.HasPrefix(told[0], "ec2 DeregisterImage {") || !strings.HasPrefix(told[1], "ec2 DeleteSnapshot {") {
		t.Errorf("a rehearsal told %q", told)
	}
	nothingLeft(t, c, img)
}

// pruneInstances: a security group, and a volume that never was attached, go once
// they are old and there is nothing else of their instance.
func pruneInstances(t *testing.T, c *Client, img Image) {
	t.Helper()
	spec := webSpec()
	spec.ID = "0123456789cd"
	h := handle{ID: spec.ID, Region: c.Region()}
	vpc, err := c.network(t.Context(), "")
	var group string
	if err == nil {
		group, err = c.makeSecurityGroup(t.Context(), h, spec, vpc)
	}
	if err == nil {
		err = c.makeTemplate(t.Context(), h, spec, template(spec, "t3.nano", img.ID, group, []byte("{}")))
	}
	if err != nil {
		t.Fatal(err)
	}
	volume, err := c.ec2().CreateVolume(t.Context(), &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(c.Region() + "a"), Size: aws.Int32(1), VolumeType: types.VolumeTypeGp3, ClientToken: aws.String("unused"),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeVolume, Tags: made([]tag{{tagVolume, "data"}, {tagMadeFor, spec.ID}, {tagVersion, "test"}})}},
	})
	if err != nil {
		t.Fatal(err)
	}
	late := time.Now().Add(time.Minute)
	if removed, err := c.prune(t.Context(), false, late); err != nil || len(removed) > 0 {
		t.Errorf("removed what a template is of: %+v, %v", removed, err)
	}
	if err := c.removeTemplate(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if removed, err := c.prune(t.Context(), false, time.Now().Add(-abandoned)); err != nil || len(removed) > 0 {
		t.Errorf("removed what is being made: %+v, %v", removed, err)
	}
	if removed, err := c.prune(t.Context(), false, late); err != nil || len(removed) != 2 || removed[0].ID != group || removed[1].ID != *volume.VolumeId {
		t.Errorf("removed %+v, %v", removed, err)
	}
	checkRemoved(t, c, spec.ID)
}

// TestRefused: what the cloud refuses is an error in words, with a way out.
func TestRefused(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for region, want := range map[string]string{"": "no region is chosen", "eu-central-1": "there are no credentials for AWS"} {
		_, err := Open(t.Context(), Options{Region: region})
		var hint interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &hint) || hint.Hint() == "" {
			t.Errorf("%q: %v", region, err)
		}
		if _, err := New(Options{Region: region}).List(t.Context()); !errors.Is(err, hypervisor.ErrNoCredentials) {
			t.Errorf("listing: %v", err)
		}
	}
}
