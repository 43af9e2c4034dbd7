//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capstan/internal/cloud/ec2/ec2test"
	"capstan/internal/cloud/gce/gcetest"
)

// volumeCloud is a cloud that keeps volumes.
type volumeCloud struct {
	name, place string
	env         []string
	failing     []string        // flags of a machine that cannot be had
	kind        string          // of a volume in ps --all-platforms
	left        func() []string // lists what is there of instances, and volumes
}

func TestVolumesGCE(t *testing.T) {
	cloud := gcetest.Start(t)
	testVolumes(t, volumeCloud{
		name: "gce", place: gcetest.Zone, env: append(cloud.Env(t), "CLOUDSDK_COMPUTE_ZONE="+gcetest.Zone), failing: []string{"--type", "e2-standard-4"},
		kind: "disk", left: func() []string { return cloud.Instances(t) },
	})
}

func TestVolumesEC2(t *testing.T) {
	cloud := ec2test.Start(t)
	const region = "eu-central-1"
	testVolumes(t, volumeCloud{
		name: "ec2", place: region, env: cloud.Env(), failing: []string{"--iam-profile", "none"},
		kind: "volume", left: func() []string { return cloud.Instances(t, region) },
	})
	checkPolicy(t, "Volumes", cloud.Actions())
}

// testVolumes: what a database has written on a volume is there for the next
// instance, when the first and its disk are gone.
func testVolumes(t *testing.T, k volumeCloud) {
	c := newCapstan(t)
	c.env = k.env
	c.must(t, "build", "--from", need(t, "redis-server", "redis-server"), "redis")
	dir := t.TempDir()
	buildProbe(t, filepath.Join(dir, "probe"), "amd64")
	if err := os.WriteFile(filepath.Join(dir, "Capstanfile"), []byte("cmdline: /probe boots /data/boots\nfiles: {/probe: probe}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "boots", dir)
	on := func(args ...string) []string { return append([]string{"run", "--on", k.name}, args...) }
	if r := c.run(t, on(slices.Concat(k.failing, []string{"-v", "data:/data:size=20G", "boots"})...)...); r.status == 0 {
		t.Errorf("with %q: %+v", k.failing, r)
	}
	if left := k.left(); len(left) > 0 {
		t.Errorf("a run that failed left %q", left)
	}
	address := func() string { return strings.TrimSpace(c.must(t, "ps", "--format", "{{.Address}}")) + ":6379" }
	database := func(name string) string {
		c.must(t, on("-d", "--name", name, "--stop-timeout", grace, "-m", "256M", "-p", "6379", "--allow", "127.0.0.0/8", "-v", "data:/data:size=20G",
			"redis", "--protected-mode", "no", "--dir", "/data", "--appendonly", "yes")...)
		return address()
	}
	if got := redis(t, database("first"), "set", "kept", "yes"); got != "OK" {
		t.Errorf("set: %q", got)
	}
	if r := c.run(t, on("-v", "data:/data", "boots")...); r.status == 0 || !strings.Contains(r.stderr, "the volume data is attached to the instance first") {
		t.Errorf("a second one: %+v", r)
	}
	if r := c.run(t, "volume", "rm", "data"); r.status == 0 || !strings.Contains(r.stderr, "the volume data is attached to ") {
		t.Errorf("removing it: %+v", r)
	}
	c.must(t, "rm", "-f", "first")
	if got := c.must(t, "volume", "ls", "--format", "{{.Name}} {{.Platform}} {{.Place}} {{.Size}} {{len .Users}}"); got != "data "+k.name+" "+k.place+" 21474836480 0\n" {
		t.Errorf("volume ls: %q", got)
	}
	if got := c.must(t, "ps", "--all-platforms", "--format", "{{.Kind}} {{.Name}}"); !strings.Contains(got, k.kind+" data\n") {
		t.Errorf("ps --all-platforms: %q", got)
	}
	if got := redis(t, database("second"), "get", "kept"); got != "yes" {
		t.Errorf("the next one has %q", got)
	}
	c.must(t, "stop", "second")
	c.must(t, "start", "second")
	if got := redis(t, address(), "get", "kept"); got != "yes" {
		t.Errorf("after stop and start it has %q", got)
	}
	c.must(t, "rm", "-f", "second")
	if out := c.must(t, on("--rm", "-v", "data:/data", "boots")...); !strings.Contains(out, "boot 1 of ") || !strings.Contains(out, " 19 GiB free") {
		t.Errorf("another image on it says %q", out)
	}
	if out := c.must(t, "volume", "rm", "data"); out != "data\n" {
		t.Errorf("volume rm: %q", out)
	}
	if left := k.left(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
