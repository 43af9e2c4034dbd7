//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"golang.org/x/sys/unix"

	"capstan/internal/cloud/ec2/ec2test"
)

// TestEC2Push: an image is pushed by a command that is killed again and again;
// the snapshot, read through the API, is the exported disk byte for byte, and
// boots from NVMe. Afterwards the account has the image and nothing else, and
// docs/ec2.md has the permissions that this took.
func TestEC2Push(t *testing.T) {
	c := newCapstan(t)
	cloud := ec2test.Start(t)
	for _, v := range cloud.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	buildProbe(t, filepath.Join(dir, "probe"), "amd64")
	file := "cmdline: /probe boots /boots\nfiles: {/probe: probe}\nenv: {FROM_IMAGE: kept}\n"
	if err := os.WriteFile(filepath.Join(dir, "Capstanfile"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "boots", dir)
	exported := filepath.Join(dir, "exported")
	c.must(t, "export", "--disk", "3G", "-o", exported, "boots")

	told := c.must(t, "push", "--dry-run", "--disk", "3G", "--copy-to", "eu-north-1", "--share", "123456789013", "boots", "ec2:")
	for _, call := range []string{"ebs StartSnapshot {", "ebs PutSnapshotBlock, ", "ebs CompleteSnapshot {", "ec2 RegisterImage {", "ec2 CopyImage {", "ec2 ModifyImageAttribute {"} {
		if !strings.Contains(told, call) {
			t.Errorf("the dry run does not tell of %s", call)
		}
	}
	if made := cloud.Actions(); slices.Contains(made, "ebs:StartSnapshot") {
		t.Errorf("the dry run made %v", made)
	}

	killed := killPushes(t, c, cloud)
	ami := strings.TrimSpace(c.must(t, "push", "--disk", "3G", "boots", "ec2:"))
	sent := cloud.Calls()["ebs:PutSnapshotBlock"]
	snapshot := onlyImage(t, ami)
	disk := filepath.Join(dir, "disk")
	blocks := readSnapshot(t, snapshot, disk, 3<<30)
	t.Logf("%d blocks, %d sent by %d commands that were killed and one that was not", blocks, sent, killed)
	if starts := cloud.Calls()["ebs:StartSnapshot"]; starts != 1 || sent > blocks+killed*8 {
		t.Errorf("%d snapshots started, %d blocks sent of %d", starts, sent, blocks)
	}
	sameFile(t, exported, disk)
	console := bootUEFI(t, hardware{disk: "-device nvme,drive=d,serial=root"}, "raw", disk).end(0)
	if !strings.Contains(console, "boot 1 of kept, 2 GiB free") {
		t.Error("the console does not say that it booted")
	}

	before := cloud.Calls()["ebs:PutSnapshotBlock"]
	if again := strings.TrimSpace(c.must(t, "push", "--disk", "3G", "boots", "ec2:")); again != ami || cloud.Calls()["ebs:PutSnapshotBlock"] != before {
		t.Errorf("pushed again it is %s and not %s, with %d blocks sent", again, ami, cloud.Calls()["ebs:PutSnapshotBlock"]-before)
	}
	c.must(t, "push", "--disk", "3G", "--copy-to", "eu-north-1", "--share", "123456789013", "--public", "--yes", "boots", "ec2:")
	if r := c.run(t, "push", "--public", "boots", "ec2:"); r.status != 2 || !strings.Contains(r.stderr, "try: --yes") {
		t.Errorf("public, without a terminal: %+v", r)
	}
	checkPolicy(t, "Pushing", cloud.Actions())
	c.must(t, "prune", "--on", "ec2")
	if left := onlyImage(t, ami); left != snapshot {
		t.Errorf("pruning left %s", left)
	}
}

// killPushes kills pushes at random calls, 10 of them and until one is not
// killed in time.
func killPushes(t *testing.T, c *capstan, cloud *ec2test.Cloud) (killed int) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		cmd := c.command(context.Background(), "push", "--disk", "3G", "boots", "ec2:")
		var started sync.WaitGroup
		started.Add(1)
		left := 4 + r.IntN(6)
		cloud.Fail(func(string) ec2test.Fault {
			if left--; left == 0 { // here, so that it comes before the answer
				started.Wait()
				_ = cmd.Process.Signal(syscall.SIGKILL) // it waits for the answer
				killed++
			}
			return ec2test.None
		})
		err := cmd.Start()
		started.Done()
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed, or was not
	}
	cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
	if killed < 5 {
		t.Errorf("only %d pushes were killed", killed)
	}
	return killed
}

// onlyImage checks that the account has one image, which is tagged, and its
// snapshot; and returns that.
func onlyImage(t *testing.T, ami string) (snapshot string) {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	api := ec2.NewFromConfig(cfg)
	images, err := api.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(images.Images) != 1 || aws.ToString(images.Images[0].ImageId) != ami || len(images.Images[0].Tags) != 5 {
		t.Errorf("the account has other images than %s: %+v", ami, images.Images)
	}
	list, err := api.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Snapshots {
		switch {
		case strings.HasPrefix(aws.ToString(s.Description), "Auto-created snapshot for AMI"): // moto's own
		case snapshot != "" || len(s.Tags) != 5:
			t.Errorf("a snapshot too many, or without tags: %+v", s)
		default:
			snapshot = aws.ToString(s.SnapshotId)
		}
	}
	return snapshot
}

// readSnapshot puts a snapshot's blocks together, and returns their number.
func readSnapshot(t *testing.T, id, path string, size int64) (blocks int) {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	api := ebs.NewFromConfig(cfg)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for in := (&ebs.ListSnapshotBlocksInput{SnapshotId: &id}); ; {
		list, err := api.ListSnapshotBlocks(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list.Blocks {
			out, err := api.GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: b.BlockIndex, BlockToken: b.BlockToken})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.NewOffsetWriter(f, int64(*b.BlockIndex)*(512<<10)), out.BlockData); err != nil {
				t.Fatal(err)
			}
			blocks++
		}
		if in.NextToken = list.NextToken; aws.ToString(in.NextToken) == "" {
			return blocks
		}
	}
}

// sameFile compares two disks.
func sameFile(t *testing.T, a, b string) {
	t.Helper()
	var files [2]*os.File
	var sizes [2]int64
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if sizes[i], err = f.Seek(0, io.SeekEnd); err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	if sizes[0] != sizes[1] {
		t.Fatalf("%s has %d bytes, and %s %d", a, sizes[0], b, sizes[1])
	}
	bufs := [2][]byte{make([]byte, 1<<20), make([]byte, 1<<20)}
	for at := int64(0); ; at += 1 << 20 {
		// What is a hole in both is zero in both.
		at = min(data(t, files[0], at, sizes[0]), data(t, files[1], at, sizes[0])) &^ (1<<20 - 1)
		n, err := files[0].ReadAt(bufs[0], at)
		m, otherErr := files[1].ReadAt(bufs[1], at)
		if n != m || !bytes.Equal(bufs[0][:n], bufs[1][:m]) || err != otherErr {
			t.Fatalf("%s and %s differ in the MiB at %d: %v, %v", a, b, at, err, otherErr)
		}
		if err != nil {
			return
		}
	}
}

// data is where the next of a file is that is no hole, or its end.
func data(t *testing.T, f *os.File, at, end int64) int64 {
	t.Helper()
	next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return end
	}
	if err != nil {
		t.Fatal(err)
	}
	return next
}

var policyBlock = regexp.MustCompile("(?s)\n\n([A-Z][a-z]+)(?:[^\n]|\n[^\n])*?:\n\n```json\n(.*?)```")

// policies are those of docs/ec2.md, by the first word of the paragraph before each.
func policies(t *testing.T) map[string][]string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "ec2.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, block := range policyBlock.FindAllSubmatch(doc, -1) {
		var policy struct{ Statement []struct{ Action []string } }
		if err := json.Unmarshal(block[2], &policy); err != nil {
			t.Fatal(err)
		}
		for _, s := range policy.Statement {
			all[string(block[1])] = append(all[string(block[1])], s.Action...)
		}
	}
	return all
}

// checkPolicy compares the calls that something took with its policy in
// docs/ec2.md, which stands beside that of pushing and that of running.
func checkPolicy(t *testing.T, what string, made []string) {
	t.Helper()
	all := policies(t)
	beside := slices.Concat(all["Pushing"], all["Running"])
	for _, call := range made {
		// These two are of this test, and the next needs no permission.
		if call == "ebs:ListSnapshotBlocks" || call == "ebs:GetSnapshotBlock" || call == "sts:GetCallerIdentity" {
			continue
		}
		if !slices.Contains(all[what], call) && (what == "Pushing" || !slices.Contains(beside, call)) {
			t.Errorf("docs/ec2.md's policy for %s does not allow %s", what, call)
		}
	}
	// Tags are given by other calls, and roles by EC2 itself.
	unseen := []string{"ec2:CreateTags", "ec2:DeleteSnapshot", "iam:PassRole", "iam:CreateServiceLinkedRole"}
	if len(all[what]) == 0 {
		t.Errorf("docs/ec2.md has no policy for %s", what)
	}
	for _, action := range all[what] {
		if !slices.Contains(made, action) && !slices.Contains(unseen, action) {
			t.Errorf("docs/ec2.md's policy for %s allows %s, which nothing needs", what, action)
		}
	}
}
