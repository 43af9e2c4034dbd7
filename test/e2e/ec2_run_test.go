//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"capstan/internal/cloud/ec2/ec2test"
)

const regionEC2 = "eu-central-1" // of ec2test's environment

// TestRunEC2 is the whole life of an instance on EC2, with a real client of its
// application, which comes by the port that was opened.
func TestRunEC2(t *testing.T) {
	c, cloud := newCapstan(t), ec2test.Start(t)
	c.env = cloud.Env()
	subnet := subnetEC2(t, cloud)
	c.must(t, "build", "--from", need(t, "redis-server", "redis-server"), "redis")
	run := []string{"run", "--on", "ec2", "-d", "--spot", "--iam-profile", ec2test.Profile, "--name", "db", "--stop-timeout", grace, "-m", "256M", "-p", "6379", "--allow", "127.0.0.0/8", "redis", "--protected-mode", "no"}
	failsEC2(t, c, cloud, "ec2:RunInstances", ec2test.Exhausted, "sufficient capacity", run)
	failsEC2(t, c, cloud, "ec2:CreateLaunchTemplate", ec2test.Forbidden, "not authorized", run)

	r := c.run(t, slices.Insert(run, 1, "--subnet", subnet)...)
	address := addressEC2(t, c)
	if r.status != 0 || r.stdout != "db\n" || !strings.Contains(r.stderr, "db has the address "+address) {
		t.Fatalf("run: %+v, at %q\n%s", r, address, tail(c.run(t, "logs", "--kernel", "db").stdout))
	}
	keepAndStop(t, c, address)
	c.must(t, "start", "db")
	if address = addressEC2(t, c); redis(t, address+":6379", "get", "kept") != "yes" {
		t.Error("after stop and start, the data is not there")
	}
	if log := c.must(t, "logs", "db"); strings.Count(log, "Ready to accept connections") != 2 { // once at each start
		t.Errorf("logs, at the second start: %q", log)
	}
	if got := c.must(t, "ps", "--all-platforms", "--format", "{{.Kind}} {{.Name}} {{.Address}}"); !strings.Contains(got, "instance db "+address+"\n") || !strings.Contains(got, "volume db") {
		t.Errorf("ps --all-platforms: %q", got)
	}
	if got := c.must(t, "prune", "--on", "ec2", "--all"); got != "" {
		t.Errorf("prune removed what is in use: %q", got)
	}
	c.must(t, "rm", "-f", "db")
	if left := cloud.Instances(t, regionEC2); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if got := c.must(t, "prune", "--on", "ec2", "--all"); !strings.HasPrefix(got, "removed image ") {
		t.Errorf("prune: %q", got)
	}
	checkPolicy(t, "Running", cloud.Actions())
}

// failsEC2 runs what comes to nothing, as one call always fails, and looks that
// nothing is left of it.
func failsEC2(t *testing.T, c *capstan, cloud *ec2test.Cloud, call string, fault ec2test.Fault, say string, run []string) {
	t.Helper()
	cloud.Fail(func(now string) ec2test.Fault {
		if now == call {
			return fault
		}
		return ec2test.None
	})
	defer cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
	if r := c.run(t, run...); r.status == 0 || !strings.Contains(r.stderr, say) {
		t.Errorf("without %s: %+v", call, r)
	}
	if left := cloud.Instances(t, regionEC2); len(left) > 0 {
		t.Errorf("without %s, there is left: %q", call, left)
	}
}

// addressEC2 is that of the instance which runs.
func addressEC2(t *testing.T, c *capstan) string {
	t.Helper()
	address := strings.TrimSpace(c.must(t, "ps", "--format", "{{.Address}}"))
	if !strings.HasPrefix(address, "127.88.") {
		t.Errorf("the address is %q", address)
	}
	return address
}

// TestReplicasEC2 is the life of a group of instances on EC2: ps shows it as one
// instance, inspect each of them, and each has booted.
func TestReplicasEC2(t *testing.T) {
	c, cloud := newCapstan(t), ec2test.Start(t)
	c.env = cloud.Env()
	buildWaits(t, c)
	const reason = "We currently do not have sufficient t3.nano capacity."
	cloud.Starve(reason)
	if r := c.run(t, "run", "--on", "ec2", "-d", "--name", "none", "--replicas", "2", "waits"); r.status == 0 || !strings.Contains(r.stderr, "none of 2 machines runs: "+reason) {
		t.Errorf("without capacity: %+v", r)
	}
	if out := c.must(t, "ps"); !strings.Contains(out, "0 of 2 running: We currently do not have sufficient") {
		t.Errorf("ps, without capacity:\n%s", out)
	}
	c.must(t, "rm", "-f", "none")
	cloud.Starve("")
	groupLife(t, c, "ec2")
	checkPolicy(t, "Replicas", cloud.Actions())
	if left := cloud.Instances(t, regionEC2); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// buildWaits builds the image "waits", which does so until it is asked to end.
func buildWaits(t *testing.T, c *capstan) {
	t.Helper()
	dir := t.TempDir()
	buildProbe(t, filepath.Join(dir, "probe"), "amd64")
	if err := os.WriteFile(filepath.Join(dir, "Capstanfile"), []byte("cmdline: /probe stay\nfiles: {/probe: probe}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "waits", dir)
}

// TestEndsEC2: instances that end otherwise than by capstan. The exit status of
// an application is that of the command, one of a group is replaced, and one
// that somebody has terminated is told of and can be removed.
func TestEndsEC2(t *testing.T) {
	c, cloud := newCapstan(t), ec2test.Start(t)
	c.env = cloud.Env()
	client := clientEC2(t, cloud)
	buildWaits(t, c)
	if r := c.run(t, "run", "--on", "ec2", "--rm", "--entrypoint", "/probe", "waits", "exit", "7"); r.status != 7 || r.stdout != "exit 7\n" {
		t.Errorf("an application that ends: %+v", r)
	}
	if left := cloud.Instances(t, regionEC2); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	c.must(t, "run", "--on", "ec2", "-d", "--name", "one", "waits")
	c.must(t, "run", "--on", "ec2", "-d", "--name", "web", "--replicas", "1", "waits")
	member := func() string {
		return strings.TrimSpace(c.must(t, "inspect", "--format", "{{range .State.Members}}{{.ID}} {{end}}", "web"))
	}
	first := member()
	for _, id := range strings.Fields(strings.Join(cloud.Instances(t, regionEC2), " ")) {
		if strings.HasPrefix(id, "i-") {
			if _, err := client.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil { // as anybody may
				t.Fatal(err)
			}
		}
	}
	for deadline := time.Now().Add(serveBound); ; time.Sleep(time.Second) {
		if now := member(); now != "" && now != first {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not replaced", first)
		}
	}
	if got := c.must(t, "ps", "-a", "--format", "{{.Name}} {{.Status}} {{.Reason}}"); !strings.Contains(got, "one dead its machine is gone from ec2\n") || !strings.Contains(got, "web running") {
		t.Errorf("once its instance was terminated: %q", got)
	}
	c.must(t, "rm", "-f", "one", "web")
	if left := cloud.Instances(t, regionEC2); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// clientEC2 does by the API what anybody may.
func clientEC2(t *testing.T, cloud *ec2test.Cloud) *ec2.Client {
	t.Helper()
	for _, v := range cloud.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ec2.NewFromConfig(cfg)
}

// subnetEC2 is a subnet that there is. That it was asked for is forgotten.
func subnetEC2(t *testing.T, cloud *ec2test.Cloud) string {
	t.Helper()
	out, err := clientEC2(t, cloud).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	if err != nil || len(out.Subnets) == 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	cloud.Forget()
	return *out.Subnets[0].SubnetId
}
