//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capstan/internal/cloud/gce/gcetest"
)

// TestPushGCE: what comes out of Compute Engine's image is the exported disk,
// byte for byte, which boots on a machine such as Compute Engine's.
func TestPushGCE(t *testing.T) {
	c, cloud := newCapstan(t), gcetest.Start(t)
	dir := t.TempDir()
	buildProbe(t, filepath.Join(dir, "probe"), "amd64")
	file := "cmdline: /probe boots /boots\nfiles: {/probe: probe}\nenv: {FROM_IMAGE: kept}\n"
	if err := os.WriteFile(filepath.Join(dir, "Capstanfile"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "team/boots:1", dir)
	for _, kv := range cloud.Env(t) {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	dry := c.must(t, "push", "--dry-run", "--project", gcetest.Project, "team/boots:1", "gce:")
	if !strings.Contains(dry, "POST ") || !strings.Contains(dry, `"guestOsFeatures":[{"type":"UEFI_COMPATIBLE"},{"type":"GVNIC"}`) || len(cloud.Calls()) > 0 {
		t.Errorf("--dry-run makes %q and says\n%s", cloud.Calls(), dry)
	}
	path := strings.TrimSpace(c.must(t, "push", "--disk", "2G", "team/boots:1", "gce:web"))
	name, ok := strings.CutPrefix(path, "projects/"+gcetest.Project+"/global/images/web-")
	if !ok {
		t.Fatalf("pushed %q", path)
	}
	if again := c.run(t, "push", "--disk", "2G", "team/boots:1", "gce:web"); again.status != 0 || strings.TrimSpace(again.stdout) != path || !strings.Contains(again.stderr, "already") {
		t.Errorf("again: %+v", again)
	}
	if images, buckets := cloud.Left(t); len(images) != 1 || len(buckets) > 0 {
		t.Errorf("images %q, buckets %q", images, buckets)
	}
	exported := filepath.Join(dir, "disk")
	c.must(t, "export", "team/boots:1", "--disk", "2G", "-o", exported)
	pushed := filepath.Join(cloud.Dir, "web-"+name+".raw")
	if out, err := exec.Command("cmp", exported, pushed).CombinedOutput(); err != nil {
		t.Fatalf("the image is not the exported disk: %v: %s", err, bytes.TrimSpace(out))
	}
	console := bootUEFI(t, hardware{disk: "-device virtio-scsi-pci,id=v -device scsi-hd,drive=d,bus=v.0"}, "raw", pushed).end(0)
	if !strings.Contains(console, "boot 1 of kept") {
		t.Error("the image does not boot")
	}
	c.checkNothingLeft(t)
}

// TestRunGCE is the whole life of an instance on Compute Engine, with a real
// client of its application, which comes by the ports that were opened.
func TestRunGCE(t *testing.T) {
	c, cloud := newCapstan(t), gcetest.Start(t)
	c.env = append(cloud.Env(t), "CLOUDSDK_COMPUTE_ZONE="+gcetest.Zone)
	c.must(t, "build", "--from", need(t, "redis-server", "redis-server"), "redis")
	for _, failing := range [][]string{{"--zone", gcetest.Exhausted}, {"--type", "e2-standard-4"}} {
		args := append([]string{"run", "--on", "gce", "-d", "--name", "none", "-p", "6379", "--allow", "127.0.0.0/8"}, append(failing, "redis")...)
		if r := c.run(t, args...); r.status == 0 || !strings.Contains(r.stderr, "Compute Engine says") {
			t.Errorf("%q: %+v", failing, r)
		}
		if left := cloud.Instances(t); len(left) > 0 {
			t.Errorf("%q left %q", failing, left)
		}
	}
	r := c.run(t, "run", "--on", "gce", "-d", "--name", "db", "--stop-timeout", grace, "-m", "256M", "-p", "6379", "--allow", "127.0.0.0/8", "redis", "--protected-mode", "no")
	address := strings.TrimSpace(c.must(t, "ps", "--format", "{{.Address}}"))
	if r.status != 0 || r.stdout != "db\n" || !strings.HasPrefix(address, "127.77.") || !strings.Contains(r.stderr, "db has the address "+address) {
		t.Fatalf("run: %+v, at %q\n%s", r, address, tail(c.run(t, "logs", "--kernel", "db").stdout))
	}
	keepAndStop(t, c, address)
	c.must(t, "start", "db")
	if got := redis(t, address+":6379", "get", "kept"); got != "yes" {
		t.Errorf("after stop and start: %q", got)
	}
	if got := c.must(t, "ps", "--all-platforms", "--format", "{{.Kind}} {{.Name}} {{.Address}}"); !strings.Contains(got, "instance db "+address+"\n") || !strings.Contains(got, "disk db") || !strings.Contains(got, "instanceTemplate db") {
		t.Errorf("ps --all-platforms: %q", got)
	}
	if got := c.must(t, "prune", "--on", "gce", "--all"); got != "" {
		t.Errorf("prune removed what is in use: %q", got)
	}
	c.must(t, "rm", "-f", "db")
	if left := cloud.Instances(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if got := c.must(t, "prune", "--on", "gce", "--all"); !strings.HasPrefix(got, "removed image redis-") {
		t.Errorf("prune: %q", got)
	}
	if images, _ := cloud.Left(t); len(images) > 0 {
		t.Errorf("the images are %q", images)
	}
}

// keepAndStop has the Redis of the instance db keep a value and stops it, and
// compares what the logs say of that.
func keepAndStop(t *testing.T, c *capstan, address string) {
	t.Helper()
	if got := redis(t, address+":6379", "set", "kept", "yes"); got != "OK" {
		t.Errorf("set: %q", got)
	}
	log := c.must(t, "logs", "db")
	if !strings.Contains(log, "Ready to accept connections") || strings.Contains(log, "capstan-") {
		t.Errorf("logs: %q", log)
	}
	followed := start(t, c.command(t.Context(), "logs", "-f", "db"))
	c.must(t, "stop", "db")
	if out := followed(); !strings.Contains(out.stdout, "Redis is now ready to exit, bye bye") || strings.Count(out.stdout, "Ready to accept") != 1 {
		t.Errorf("logs -f: %+v", out)
	}
	if status, exit := vsphereState(t, c, "db"); status != "exited" || exit != 0 {
		t.Errorf("after stop: %s, %d", status, exit)
	}
}

// TestReplicasGCE is the life of a group of machines on Compute Engine: ps shows
// it as one instance, inspect each machine, and each has booted.
func TestReplicasGCE(t *testing.T) {
	c, cloud := newCapstan(t), gcetest.Start(t)
	c.env = append(cloud.Env(t), "CLOUDSDK_COMPUTE_ZONE="+gcetest.Zone)
	buildWaits(t, c)
	groupLife(t, c, "gce")
	if left := cloud.Instances(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// groupLife is that of a group of machines of the image "waits".
func groupLife(t *testing.T, c *capstan, platform string) {
	t.Helper()
	if out := c.must(t, "run", "--on", platform, "-d", "--name", "web", "--replicas", "2", "waits"); out != "web\n" {
		t.Fatalf("run: %q", out)
	}
	scaled := func(want string) {
		t.Helper()
		if got := c.must(t, "ps"); strings.Count(got, "\n") != 2 || !strings.Contains(got, want) {
			t.Errorf("ps, for %q:\n%s", want, got)
		}
	}
	scaled("2 of 2 running")
	members := strings.Fields(c.must(t, "inspect", "--format", "{{range .State.Members}}{{.ID}} {{end}}", "web"))
	if len(members) != 2 {
		t.Fatalf("inspect lists %q", members)
	}
	awaitLogs(t, c, members)
	c.must(t, "scale", "web", "3")
	scaled("3 of 3 running")
	c.must(t, "scale", "web", "1")
	scaled("1 of 1 running")
	c.must(t, "stop", "web")
	if got := c.must(t, "ps", "-a"); !strings.Contains(got, "stopped") {
		t.Errorf("stopped:\n%s", got)
	}
	c.must(t, "scale", "web", "2")
	c.must(t, "start", "web")
	scaled("2 of 2 running")
	c.must(t, "rm", "-f", "web")
}

// awaitLogs follows a group's logs until each of its machines has said
// something.
func awaitLogs(t *testing.T, c *capstan, members []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := c.command(ctx, "logs", "-f", "web")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	silent := map[string]bool{}
	for _, m := range members {
		silent[m] = true
	}
	for lines := bufio.NewScanner(out); len(silent) > 0 && lines.Scan(); {
		member, said, _ := strings.Cut(lines.Text(), " ")
		if said != "" {
			delete(silent, member)
		}
	}
	_ = cmd.Process.Kill() // the group runs on
	_ = cmd.Wait()
	if len(silent) > 0 {
		t.Errorf("nothing was said by %v", silent)
	}
}
