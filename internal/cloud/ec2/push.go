package ec2

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Unit is what a disk's size is a multiple of, in bytes.
const Unit = 1 << 30

// Push is a disk to make an image of.
type Push struct {
	Name          string // the image's, without what makes it the disk's own
	Image, Digest string // what the disk was made of
	// Disk is an identity of what is on the disk, in hexadecimal digits: the
	// same for disks of the same bytes, and for no others.
	Disk string
	Arch string // amd64 or arm64
	Size int64  // in bytes, of whole Units
	// Write writes the disk from its first byte to its last but for what is
	// zero.
	Write func(ctx context.Context, w io.WriterAt) error
}

// Image is an image in the cloud.
type Image struct {
	Region, ID string
	Snapshot   string
	Sent       int64 // bytes that were sent for it
	Found      bool  // it was there already
}

// Tags of all that is made in an account.
const (
	tagName    = "Name"
	tagImage   = "capstan:image"
	tagDigest  = "capstan:digest"
	tagVersion = "capstan:version"
	tagDisk    = "capstan:disk"

	// Of what belongs to an instance of Capstan:
	tagInstance     = "capstan:instance"
	tagInstanceName = "capstan:name"
	tagCreated      = "capstan:created" // on what EC2 does not tell the age of
)

// fullName is the image's own in the account: one that no other disk has.
func (p *Push) fullName() string { return p.Name + "-" + p.Disk[:12] }

// tag is a key and a value.
type tag struct{ key, value string }

// tags are those of all that a push makes.
func (c *Client) tags(p *Push) []types.Tag {
	return made([]tag{{tagName, p.Name}, {tagImage, p.Image}, {tagDigest, p.Digest}, {tagVersion, c.opts.Version}, {tagDisk, p.Disk}})
}

// Push makes an image of a disk, unless there is one of the same name. A
// snapshot of the disk that is there is used; what an earlier push has sent
// is not sent again.
func (c *Client) Push(ctx context.Context, p *Push) (Image, error) {
	if p.Size%Unit != 0 || p.Size == 0 {
		return Image{}, fmt.Errorf("a disk of %d bytes is none of whole GiB", p.Size)
	}
	st, err := c.lockState(ctx, p.Disk)
	if err != nil {
		return Image{}, err
	}
	defer st.close()
	img, err := c.findImage(ctx, p)
	if err != nil {
		return img, err
	}
	if !img.Found {
		sent, prune := "what was sent is kept in "+c.Region(), "capstan prune --on ec2 --region "+c.Region()
		if img.Snapshot, img.Sent, err = c.snapshot(ctx, p, st); err != nil && st.doc.Snapshot != "" {
			err = keeping(err, sent+" for an hour", prune)
		}
		if err != nil {
			return img, err
		}
		if err := st.noteMade(); err != nil {
			return img, err
		}
		if img.ID, err = c.register(ctx, p, img.Snapshot); err != nil {
			return img, keeping(err, sent, prune)
		}
	}
	if err := c.awaitMade(ctx, img, registerBound); err != nil {
		return img, err
	}
	return img, st.forget()
}

// KeptError is a push that was interrupted, and what it has made is kept for
// the next one.
type KeptError struct {
	Err           error
	What, Removal string // of that, and a command
}

func (e *KeptError) Error() string { return e.What }
func (e *KeptError) Unwrap() error { return e.Err }

// Hint is the way out.
func (e *KeptError) Hint() string {
	return "the same command again, which goes on from there, or " + e.Removal
}

// keeping tells what is kept, if err is an interrupt.
func keeping(err error, what, removal string) error {
	if errors.Is(err, context.Canceled) {
		return &KeptError{err, what, removal}
	}
	return err
}

// Bounds on waiting for the cloud.
const (
	snapshotBound = time.Hour
	settleBound   = 5 * time.Minute // where completing was refused
	registerBound = 15 * time.Minute
	copyBound     = 2 * time.Hour
)

// snapshot returns a complete snapshot of the disk, and how many bytes were
// sent for it.
func (c *Client) snapshot(ctx context.Context, p *Push, st *state) (id string, sent int64, err error) {
	id, complete, err := c.resume(ctx, p, st)
	if err != nil || complete {
		return id, 0, err
	}
	if id == "" {
		if err := st.begin(rand.Text()); err != nil {
			return "", 0, err
		}
		if id, err = c.start(ctx, p, st); err != nil {
			return "", 0, err
		}
	}
	if sent, err = c.upload(ctx, p, st, id); err != nil {
		return id, sent, err
	}
	return id, sent, c.awaitSnapshot(ctx, id, snapshotBound)
}

// resume looks for what an earlier push has left: a snapshot that is complete,
// the one of this state that is not, or one that the cloud has given up, which
// is removed. One that is pending and not known here may be another host's.
func (c *Client) resume(ctx context.Context, p *Push, st *state) (id string, complete bool, err error) {
	list, err := c.snapshots(ctx, filter("tag:"+tagDisk, p.Disk))
	if err != nil {
		return "", false, err
	}
	for _, s := range list {
		switch {
		case s.State == types.SnapshotStateCompleted:
			return aws.ToString(s.SnapshotId), true, nil
		case s.State == types.SnapshotStateError:
			if err := c.deleteSnapshot(ctx, aws.ToString(s.SnapshotId)); err != nil {
				return "", false, err
			}
		case aws.ToString(s.SnapshotId) == st.doc.Snapshot:
			id = st.doc.Snapshot
		}
	}
	// One that was just started is not listed at once, or its process was
	// killed before it knew the answer.
	if id == "" && st.doc.Token != "" && time.Since(st.doc.Started) < 2*time.Minute {
		id, err = c.start(ctx, p, st)
	}
	return id, false, err
}

// snapshotTimeout is when the cloud gives up a snapshot to which nothing is
// written any more.
const snapshotTimeout = 60 // minutes

// start starts the state's snapshot; again, if it was started before.
func (c *Client) start(ctx context.Context, p *Push, st *state) (string, error) {
	var tags []ebstypes.Tag
	for _, t := range c.tags(p) {
		tags = append(tags, ebstypes.Tag{Key: t.Key, Value: t.Value})
	}
	out, err := c.ebs().StartSnapshot(ctx, &ebs.StartSnapshotInput{
		VolumeSize:  aws.Int64(p.Size / Unit),
		ClientToken: &st.doc.Token,
		Description: aws.String("Capstan image " + p.Image),
		Tags:        tags,
		Timeout:     aws.Int32(snapshotTimeout),
	})
	if err != nil {
		return "", explain("starting a snapshot", err)
	}
	st.doc.Snapshot = aws.ToString(out.SnapshotId)
	return st.doc.Snapshot, st.save()
}

// upload sends the blocks that are not there yet, and completes the snapshot.
func (c *Client) upload(ctx context.Context, p *Push, st *state, id string) (int64, error) {
	var sent atomic.Int64
	into := newSink(ctx, maxParallel, func(ctx context.Context, b block, s sum) error {
		if st.known[b.index] == s {
			return nil
		}
		if err := c.put(ctx, id, b, s); err != nil {
			return explain("sending the disk", err)
		}
		sent.Add(blockSize)
		return st.note(blockSum{b.index, s})
	})
	if err := into.close(p.Write(into.ctx, into)); err != nil {
		return sent.Load(), err
	}
	total := into.total()
	_, err := c.ebs().CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
		SnapshotId:                &id,
		ChangedBlocksCount:        aws.Int32(int32(len(into.sums))),
		Checksum:                  aws.String(base64.StdEncoding.EncodeToString(total[:])),
		ChecksumAlgorithm:         ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
	})
	return sent.Load(), c.completed(ctx, st, id, err)
}

// put sends a block in its turn.
func (c *Client) put(ctx context.Context, id string, b block, s sum) error {
	err := c.pace.enter(ctx)
	if err == nil {
		_, err = c.ebs().PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId:        &id,
			BlockIndex:        &b.index,
			BlockData:         bytes.NewReader(b.data),
			DataLength:        aws.Int32(blockSize),
			Checksum:          aws.String(base64.StdEncoding.EncodeToString(s[:])),
			ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		})
	}
	c.pace.leave(err == nil)
	return err
}

// completed looks at how completing a snapshot ended. An answer may get lost,
// and asking again is refused then, while the cloud is about it. Where it has
// other blocks than it should have, nothing of the snapshot is of use.
func (c *Client) completed(ctx context.Context, st *state, id string, err error) error {
	var invalid *ebstypes.ValidationException
	if err == nil || !errors.As(err, &invalid) {
		return explain("completing the snapshot", err)
	}
	if c.awaitSnapshot(ctx, id, settleBound) == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if err := c.deleteSnapshot(ctx, id); err != nil {
		return err
	}
	if err := st.forget(); err != nil {
		return err
	}
	return &Error{"completing the snapshot", &apiError{invalid}, "the same command again: what was sent is removed, and is sent anew"}
}

// snapshots lists the account's own.
func (c *Client) snapshots(ctx context.Context, filters ...types.Filter) ([]types.Snapshot, error) {
	in := &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: filters}
	var list []types.Snapshot
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeSnapshots(ctx, in)
		if err != nil {
			return nil, explain("listing snapshots", err)
		}
		list, in.NextToken = append(list, page.Snapshots...), page.NextToken
	}
	return list, nil
}

func (c *Client) deleteSnapshot(ctx context.Context, id string) error {
	_, err := c.ec2().DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
	if isCode(err, "InvalidSnapshot.NotFound") {
		return nil
	}
	return explain("deleting snapshot "+id, err)
}

func (c *Client) awaitSnapshot(ctx context.Context, id string, bound time.Duration) error {
	return c.await(ctx, "completing the snapshot", bound, func(ctx context.Context) (int64, error) {
		list, err := c.snapshots(ctx, filter("snapshot-id", id))
		if err != nil || len(list) == 0 { // not known everywhere yet
			return 0, err
		}
		switch s := list[0]; s.State {
		case types.SnapshotStateCompleted:
			return 100, nil
		case types.SnapshotStateError:
			return 0, &Error{"completing the snapshot", fmt.Errorf("EC2 has given %s up: %s", id, aws.ToString(s.StateMessage)), "the same command again"}
		default:
			var percent int64
			_, _ = fmt.Sscanf(aws.ToString(s.Progress), "%d%%", &percent) // for people
			return min(percent, 99), nil
		}
	})
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}
