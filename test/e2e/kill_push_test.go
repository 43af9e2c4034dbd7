//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"capstan/internal/cloud/ec2/ec2test"
	"capstan/internal/cloud/gce/gcetest"
)

// pushedSize is that of the disks which are pushed, and pushedContent how much
// is on them beside the guest, in bytes.
const pushedSize, pushedContent = 1 << 30, 24 << 20

// account is a cloud's, that images are pushed to.
type account struct {
	push, prune []string
	// onCall has f called before each call of the cloud.
	onCall func(f func())
	// sent is how much of disks has come, in bytes; of a push that is killed
	// up to slack may have come in vain.
	sent  func() int64
	slack int64
	// disk finds the disk of the image that a push has told of.
	disk func(told string) string
	// left is what the account has, but for that image, if there is one; and
	// whether that is there.
	left func() (other []string, image bool)
}

// TestKilledPushes kills and interrupts pushes at random moments. A push that
// is repeated comes to its end and sends what is missing, an interrupt leaves
// nothing of which it does not tell, and prune removes what a kill has left.
func TestKilledPushes(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *capstan) *account{"ec2": openEC2, "gce": openGCE} {
		t.Run(name, func(t *testing.T) {
			seed := soakSeed(t)
			t.Logf("SOAK_SEED=%d repeats these choices", seed)
			c := newCapstan(t)
			k := &pushKiller{t: t, c: c, rnd: rand.New(rand.NewPCG(seed, 0)), account: open(t, c)}
			k.build()
			k.measure()
			for kills := soakNumber(t, "SOAK_PUSHES", 12); k.kills < kills; {
				k.life()
				if t.Failed() {
					t.Fatalf("after %d kills; SOAK_SEED=%d", k.kills, seed)
				}
			}
			k.abandon()
			t.Logf("%d pushes were killed, %d interrupted, and %d came to their end; a push takes %d calls and sends %d bytes",
				k.kills-k.interrupts, k.interrupts, k.ends, k.calls, k.whole)
		})
	}
}

// pushKiller is one run of that with a cloud.
type pushKiller struct {
	*account
	t        *testing.T
	c        *capstan
	rnd      *rand.Rand
	exported string

	calls int           // that a push makes, undisturbed
	took  time.Duration // by it
	whole int64         // bytes that it sends

	kills, interrupts, ends int
}

// build makes the image that is pushed, whose content no packing makes smaller.
func (k *pushKiller) build() {
	dir := k.t.TempDir()
	content := make([]byte, pushedContent)
	rand.NewChaCha8([32]byte{7}).Read(content)
	err := os.WriteFile(filepath.Join(dir, "content"), content, 0o644)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "Capstanfile"), []byte("cmdline: /content\nfiles: {/content: content}\n"), 0o644)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.c.must(k.t, "build", "pushed", dir)
	k.exported = filepath.Join(dir, "exported")
	k.c.must(k.t, "export", "--disk", "1G", "-o", k.exported, "pushed")
}

// measure pushes undisturbed.
func (k *pushKiller) measure() {
	began := time.Now()
	k.onCall(func() { k.calls++ })
	told := k.c.must(k.t, k.push...)
	k.onCall(nil)
	k.took, k.whole = time.Since(began), k.sent()
	k.ended(told)
}

// life is pushes until one comes to its end.
func (k *pushKiller) life() {
	begun, killed := k.sent(), int64(0)
	var before []string
	had := false
	for {
		signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGINT}[k.rnd.IntN(2)]
		r := k.cut(signal, k.rnd.IntN(k.calls+1), time.Duration(k.rnd.Int64N(2*int64(k.took)/int64(k.calls))))
		if r.status == 0 {
			if sent := k.sent() - begun; sent > k.whole+killed*k.slack {
				k.t.Errorf("%d bytes were sent after %d kills, in place of %d", sent, killed, k.whole)
			}
			k.ended(r.stdout)
			return
		}
		k.kills++
		killed++
		after, image := k.left()
		switch {
		case r.status < 0: // by the signal
		case signal == syscall.SIGKILL || r.status != 130:
			k.t.Errorf("it was sent %v, and ended as %+v", signal, r)
			return
		case slices.Equal(before, after) && had == image, strings.Contains(r.stderr, "try: "):
		case len(after) > 0 || image:
			k.t.Errorf("an interrupt left %q, an image: %v; it said %q", after, image, r.stderr)
		}
		if signal == syscall.SIGINT {
			k.interrupts++
		}
		if len(after) == 0 && !image { // it was removed, and is to be sent anew
			begun, killed = k.sent(), 0
		}
		before, had = after, image
	}
}

// cut runs a push, and sends it a signal so long after it has begun its call
// number at, or after its start if that is 0. The status of one that the signal
// has ended is -1.
func (k *pushKiller) cut(signal syscall.Signal, at int, after time.Duration) result {
	reached := make(chan struct{})
	k.onCall(func() {
		if at--; at == 0 {
			close(reached)
		}
	})
	defer k.onCall(nil)
	if at == 0 {
		close(reached)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandBound)
	defer cancel()
	cmd := k.c.command(ctx, k.push...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its status is looked at
	}()
	select {
	case <-ended:
	case <-reached:
		select { // the random moment is what this test is about
		case <-time.After(after):
			_ = cmd.Process.Signal(signal) // it may have ended
		case <-ended:
		}
	}
	<-ended
	if ctx.Err() != nil {
		k.t.Fatalf("the push still runs after %s: %s%s", commandBound, &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// ended looks at what a push has made that came to its end, and removes it.
func (k *pushKiller) ended(told string) {
	k.t.Helper()
	k.ends++
	if other, image := k.left(); len(other) > 0 || !image {
		k.t.Errorf("beside the image, which is there: %v, there is %q", image, other)
	}
	disk := k.disk(strings.TrimSpace(told))
	sameFile(k.t, k.exported, disk)
	if err := os.Remove(disk); err != nil {
		k.t.Fatal(err)
	}
	k.noState()
	k.c.must(k.t, append(slices.Clone(k.prune), "--all")...)
}

// abandon kills a push half way, and prunes.
func (k *pushKiller) abandon() {
	k.cut(syscall.SIGKILL, k.calls/2, 0)
	if other, _ := k.left(); len(other) == 0 {
		k.t.Error("a push that was killed half way left nothing")
	}
	if out := k.c.must(k.t, k.prune...); !strings.HasPrefix(out, "removed ") {
		k.t.Errorf("prune says %q", out)
	}
	if other, image := k.left(); len(other) > 0 || image {
		k.t.Errorf("after pruning there is %q, and the image: %v", other, image)
	}
	k.noState()
}

// noState checks that nothing is written down of pushes on this host.
func (k *pushKiller) noState() {
	for _, cloud := range []string{"ec2", "gce"} {
		err := filepath.WalkDir(filepath.Join(k.c.root, cloud), func(path string, d os.DirEntry, err error) error {
			// A note of what was made is no push: it goes after an hour.
			if ext := filepath.Ext(path); err == nil && !d.IsDir() && ext != ".lock" && ext != ".made" {
				k.t.Errorf("left behind: %s", path)
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			k.t.Fatal(err)
		}
	}
}

// openEC2 opens an account of EC2.
func openEC2(t *testing.T, c *capstan) *account {
	cloud := ec2test.Start(t)
	for _, v := range cloud.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	api := ec2.NewFromConfig(cfg)
	const block = 512 << 10
	a := &account{
		push: []string{"push", "--disk", "1G", "pushed", "ec2:"}, prune: []string{"prune", "--on", "ec2"},
		onCall: func(f func()) {
			cloud.Fail(func(string) ec2test.Fault {
				if f != nil {
					f()
				}
				return ec2test.None
			})
		},
		sent:  func() int64 { return int64(cloud.Calls()["ebs:PutSnapshotBlock"]) * block },
		slack: 32 * block, // are under way at once
	}
	a.left = func() (other []string, image bool) {
		images, err := api.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
		if err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		for _, i := range images.Images {
			image = true
			for _, m := range i.BlockDeviceMappings {
				used[aws.ToString(m.Ebs.SnapshotId)] = true
			}
			if len(i.Tags) == 0 {
				other = append(other, aws.ToString(i.ImageId)+", without tags")
			}
		}
		snapshots, err := api.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range snapshots.Snapshots {
			moto := strings.HasPrefix(aws.ToString(s.Description), "Auto-created snapshot for AMI")
			if id := aws.ToString(s.SnapshotId); !moto && (!used[id] || len(s.Tags) == 0) {
				other = append(other, fmt.Sprintf("%s, %s, with %d tags", id, s.State, len(s.Tags)))
			}
		}
		return other, image
	}
	a.disk = func(ami string) string {
		path := filepath.Join(t.TempDir(), "disk")
		readSnapshot(t, onlyImage(t, ami), path, pushedSize)
		return path
	}
	return a
}

// openGCE opens a project of Google Cloud.
func openGCE(t *testing.T, c *capstan) *account {
	cloud := gcetest.Start(t)
	c.env = append(cloud.Env(t), "CLOUDSDK_COMPUTE_ZONE="+gcetest.Zone)
	return &account{
		push: []string{"push", "--disk", "1G", "pushed", "gce:"}, prune: []string{"prune", "--on", "gce"},
		onCall: func(f func()) {
			cloud.Trouble(func(*http.Request, int) gcetest.Trouble {
				if f != nil {
					f()
				}
				return gcetest.Trouble{}
			})
		},
		sent:  cloud.Sent,
		slack: 1 << 20, // Cloud Storage counts whole 256 KiB
		disk: func(told string) string {
			return filepath.Join(cloud.Dir, filepath.Base(told)+".raw")
		},
		left: func() (other []string, image bool) {
			images, buckets := cloud.Left(t)
			return buckets, len(images) > 0
		},
	}
}
