//go:build e2e

package ec2

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"capstan/internal/cloud/ec2/ec2test"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// address is that of the instances which boot nothing.
const address = "192.0.2.7"

// TestRemote: the driver is what the interface says. Each of the suite's tests
// has a region of its own: their instances have one ID, and EC2 does not make
// an instance twice.
func TestRemote(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	connect(t, cloud, "", t.TempDir())
	regions := map[string]string{}
	region := func(t *testing.T) string {
		if regions[t.Name()] == "" {
			regions[t.Name()] = ec2test.Regions[len(regions)]
		}
		return regions[t.Name()]
	}
	driver := func(t *testing.T) hypervisor.Remote {
		return New(Options{Region: region(t), Version: "test", State: t.TempDir()})
	}
	remotetest.Run(t, remotetest.Platform{
		Driver: driver,
		Unreachable: func(t *testing.T) hypervisor.Remote {
			t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1") // nobody listens there
			d := New(Options{Version: "test", State: t.TempDir()})
			if _, err := d.client(t.Context(), region(t)); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_ENDPOINT_URL", cloud.URL)
			return d
		},
		Left:    func(t *testing.T) []string { return cloud.Instances(t, region(t)) },
		Address: netip.MustParseAddr(address),
		Secret:  ec2test.Secret,
	})
}

// What cannot be had is told with a way out, and leaves nothing.
func TestCannot(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	connect(t, cloud, "", t.TempDir())
	n := 0
	for name, c := range map[string]struct {
		change    func(*hypervisor.RemoteSpec)
		fault     ec2test.Fault
		call      string // that fails by it
		say, hint string
	}{
		"no such type":   {change: func(s *hypervisor.RemoteSpec) { s.Cloud.Type = "e9.huge" }, say: "has no instance type e9.huge", hint: "--type"},
		"another's type": {change: func(s *hypervisor.RemoteSpec) { s.Cloud.Type = "t4g.small" }, say: "is not for x86_64", hint: "t3.small"},
		"no such subnet": {change: func(s *hypervisor.RemoteSpec) { s.Cloud.Subnet = "subnet-0123456789abcdef0" }, say: "subnet-0123456789abcdef0", hint: "describe-subnets"},
		"too much":       {change: func(s *hypervisor.RemoteSpec) { s.Memory = 1 << 50 }, say: "has no instance type of t3", hint: "--type"},
		"long config": {change: func(s *hypervisor.RemoteSpec) { s.Guest.Env = []string{"LONG=" + strings.Repeat("x", maxUserData)} },
			say: "no more than 16384", hint: "into the image"},
		"no capacity":      {fault: ec2test.Exhausted, call: "ec2:RunInstances", say: "do not have sufficient capacity", hint: "--type"},
		"refused template": {fault: ec2test.Forbidden, call: "ec2:CreateLaunchTemplate", say: "You are not authorized", hint: "docs/ec2.md"},
		"refused start":    {fault: ec2test.Forbidden, call: "ec2:RunInstances", say: "You are not authorized", hint: "docs/ec2.md"},
		"no such profile":  {change: func(s *hypervisor.RemoteSpec) { s.Cloud.Identity = "nobody" }, say: "Invalid IAM Instance Profile name", hint: "--iam-profile"},
	} {
		region := ec2test.Regions[n]
		n++
		t.Run(name, func(t *testing.T) {
			cloud.Fail(func(call string) ec2test.Fault {
				if call == c.call {
					return c.fault
				}
				return ec2test.None
			})
			d := New(Options{Region: region, Version: "test", State: t.TempDir()})
			spec := webSpec()
			spec.Cloud.Sources = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
			if c.change != nil {
				c.change(spec)
			}
			remotetest.Fails(t, d, spec, c.say, c.hint)
			if left := cloud.Instances(t, region); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// Calls that are throttled, or whose answers are lost, do no harm in an
// instance's life, and nothing is made twice.
func TestInstanceTrouble(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	connect(t, cloud, "", t.TempDir())
	regions := map[string]string{"throttled a third of the time": "eu-central-1", "answers that are lost": "eu-north-1"}
	for name, faults := range map[string]func(n int) ec2test.Fault{
		"throttled a third of the time": func(n int) ec2test.Fault { return map[int]ec2test.Fault{0: ec2test.Throttle}[n%3] },
		"answers that are lost":         func(n int) ec2test.Fault { return map[int]ec2test.Fault{0: ec2test.Lost}[n%2] },
	} {
		region := regions[name]
		t.Run(name, func(t *testing.T) {
			n := 0
			cloud.Forget()
			cloud.Fail(func(string) ec2test.Fault {
				n++
				return faults(n)
			})
			d := New(Options{Region: region, Version: "test", State: t.TempDir()})
			spec := webSpec()
			spec.Cloud.Sources = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
			h, err := remotetest.Created(t, d, spec)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Start(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			if now, err := d.Status(t.Context(), h); err != nil || !now.On || now.Address.String() != address {
				t.Errorf("%+v, %v", now, err)
			}
			if err := errors.Join(d.Stop(t.Context(), h, time.Minute), d.Start(t.Context(), h), d.Stop(t.Context(), h, 0), d.Remove(t.Context(), h)); err != nil {
				t.Fatal(err)
			}
			for _, call := range []string{"ec2:RunInstances", "ec2:CreateLaunchTemplate", "ec2:CreateSecurityGroup", "ec2:RegisterImage"} {
				if made := cloud.Calls()[call]; made != 1 {
					t.Errorf("%s was done %d times", call, made)
				}
			}
			if left := cloud.Instances(t, region); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// What was just made is not listed at once: it is waited for, not made again,
// and removed nevertheless.
func TestLate(t *testing.T) {
	cloud := ec2test.Pretend(t, address)
	connect(t, cloud, "", t.TempDir())
	lists := map[string][]string{
		"ec2:CreateLaunchTemplate": {"ec2:DescribeLaunchTemplates"}, "ec2:CreateSecurityGroup": {"ec2:DescribeSecurityGroups"},
		"ec2:RunInstances":                   {"ec2:DescribeInstances", "ec2:DescribeSpotInstanceRequests"},
		"autoscaling:CreateAutoScalingGroup": {"autoscaling:DescribeAutoScalingGroups"},
	}
	spec := webSpec()
	spec.Cloud.Spot = true
	for n, started := range []bool{false, true, false} {
		if n == 2 {
			spec.Replicas = 2
		}
		region := ec2test.Regions[n]
		cloud.Forget()
		d := New(Options{Region: region, Version: "test", State: t.TempDir()})
		late := map[string]int{}
		cloud.Fail(func(call string) ec2test.Fault {
			for _, list := range lists[call] {
				late[list] = 2
			}
			if late[call] == 0 {
				return ec2test.None
			}
			late[call]--
			return ec2test.Late
		})
		h, err := remotetest.Created(t, d, spec)
		if err == nil && started {
			err = d.Start(t.Context(), h)
		}
		if err != nil {
			t.Fatal(err)
		}
		if now, err := d.Status(t.Context(), h); started && (err != nil || !now.On) {
			t.Errorf("started: %+v, %v", now, err)
		}
		if err := d.Remove(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if left := cloud.Instances(t, region); len(left) > 0 {
			t.Errorf("started %t: left: %q", started, left)
		}
		if runs := cloud.Calls()["ec2:RunInstances"]; runs > 1 {
			t.Errorf("%d instances were run", runs)
		}
	}
}
