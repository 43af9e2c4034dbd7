//go:build e2e

package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"capstan/internal/cloud/ec2/ec2test"
)

// TestRehearseEC2: --dry-run prints what would be made on EC2, without what is
// in the environment, and makes nothing, neither there nor here.
func TestRehearseEC2(t *testing.T) {
	cloud := ec2test.Pretend(t, "192.0.2.9")
	w := appWorld(t, cloud.Env()...)
	for flag, last := range map[string]string{"--spot": "ec2 RunInstances {", "--replicas=2": "auto scaling UpdateAutoScalingGroup {"} {
		out := w.must("run", "--dry-run", "--on", "ec2", "--name", "web", "-d", flag, "-e", "PASSWORD=secret", "-p", "80", "--allow", "192.0.2.0/24", "app")
		for _, call := range []string{"ebs StartSnapshot {", "ec2 RegisterImage {", "ec2 CreateSecurityGroup {", "192.0.2.0/24", "ec2 CreateLaunchTemplate {", "ami-dryrun", last} {
			if !strings.Contains(out, call) {
				t.Errorf("with %s there is no %s in\n%s", flag, call, out)
			}
		}
		if strings.Contains(out, "secret") {
			t.Errorf("a secret is in\n%s", out)
		}
	}
	if left := cloud.Instances(t, "eu-central-1"); len(left) > 0 {
		t.Errorf("made: %q", left)
	}
	if left := w.must("ps", "-aq") + w.must("ps", "--all-platforms", "-q"); left != "" {
		t.Errorf("made: %q", left)
	}
}

// TestUnreachableEC2: an instance of a cloud that does not answer is not
// forgotten, and rm -f removes it as soon as the cloud answers again.
func TestUnreachableEC2(t *testing.T) {
	cloud := ec2test.Pretend(t, "192.0.2.9")
	w := appWorld(t, cloud.Env()...)
	w.must("run", "--on", "ec2", "-d", "--name", "web", "app")
	there := w.env
	w.env = append(there[:len(there):len(there)], "AWS_ENDPOINT_URL=http://127.0.0.1:1")
	r := w.capstan("rm", "-f", "web")
	if r.status != exitError || r.stdout != "" || !strings.Contains(r.stderr, "removing web: ec2: ") || !strings.Contains(r.stderr, "the platform cannot be reached") ||
		!strings.Contains(r.stderr, "\n  try: look whether this host reaches AWS; the same command again goes on") {
		t.Errorf("without the cloud: %+v", r)
	}
	w.env = there
	if list := w.must("ps", "-q"); list != "web\n" {
		t.Errorf("there is %q", list)
	}
	w.must("rm", "-f", "web")
	if left := cloud.Instances(t, "eu-central-1"); len(left) > 0 {
		t.Errorf("left in the cloud: %q", left)
	}
}

// TestInterruptedRunEC2 interrupts capstan run on EC2, wherever it is.
func TestInterruptedRunEC2(t *testing.T) {
	cloud := ec2test.Pretend(t, "192.0.2.9")
	w := appWorld(t, cloud.Env()...)
	for _, at := range []string{
		"DescribeVpcs", "StartSnapshot", "PutSnapshotBlock", "RegisterImage", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress",
		"CreateLaunchTemplate", "RunInstances", "GetConsoleOutput",
	} {
		t.Run(at, func(t *testing.T) {
			cmd := w.command("run", "--on", "ec2", "-d", "--name", "web", "-p", "80", "--allow", "192.0.2.0/24", "app", at)
			heard, reached := listen(cmd), false
			cloud.Fail(func(call string) ec2test.Fault {
				now := !reached && strings.HasSuffix(call, ":"+at)
				if now {
					reached = true
					cmd.Process.Signal(os.Interrupt)
				}
				// So that nothing is done before the signal is taken.
				if taken, _ := heard.has(undoing); reached && !taken && (!now || at == "GetConsoleOutput") {
					return ec2test.Throttle
				}
				return ec2test.None
			})
			r := w.run(cmd)
			cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
			if !reached || r.status != exitInterrupted || r.stdout != "" || !strings.HasSuffix(r.stderr, "capstan: interrupted\n") {
				t.Errorf("reached: %t; %+v", reached, r)
			}
			if at == "PutSnapshotBlock" && !strings.Contains(r.stderr, "kept in eu-central-1 for an hour\n  try: ") {
				t.Errorf("nothing tells of the snapshot: %s", r.stderr)
			}
			if left := cloud.Instances(t, "eu-central-1"); len(left) > 0 {
				t.Errorf("left in the cloud: %q", left)
			}
			if left := w.must("ps", "-aq"); left != "" {
				t.Errorf("left here: %q", left)
			}
		})
	}
}

// TestInterruptedTwiceEC2: a second interrupt ends a push while EC2 does not
// answer.
func TestInterruptedTwiceEC2(t *testing.T) {
	cloud := ec2test.Pretend(t, "192.0.2.9")
	w := appWorld(t, cloud.Env()...)
	cmd := w.command("push", "app", "ec2:")
	reached := false
	cloud.Fail(func(call string) ec2test.Fault {
		if strings.HasSuffix(call, ":StartSnapshot") && !reached {
			reached = true
			impatient(cmd)
			return ec2test.Cut // it has nobody to answer
		}
		return ec2test.None
	})
	w.run(cmd)
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !reached || !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("reached: %t; %v", reached, cmd.ProcessState)
	}
}

// TestCopiesEC2: the images that a push has made are told, where it fails or is
// interrupted in another region.
func TestCopiesEC2(t *testing.T) {
	cloud := ec2test.Pretend(t, "192.0.2.9")
	w := appWorld(t, cloud.Env()...)
	push := func() *exec.Cmd { return w.command("push", "--copy-to", "us-east-1,us-west-2", "app", "ec2:") }
	copies := 0
	cloud.Fail(func(call string) ec2test.Fault {
		if strings.HasSuffix(call, ":CopyImage") {
			if copies++; copies == 2 {
				return ec2test.Forbidden
			}
		}
		return ec2test.None
	})
	r := w.run(push())
	ids := strings.Fields(r.stdout)
	if r.status != exitError || len(ids) != 2 || !strings.Contains(r.stderr, "to us-east-1 as "+ids[1]) || !strings.Contains(r.stderr, "copying the image to us-west-2: ") {
		t.Errorf("refused: %+v", r)
	}
	cmd, copied := push(), false
	cloud.Fail(func(call string) ec2test.Fault {
		switch {
		case strings.HasSuffix(call, ":CopyImage"):
			copied = true
			cmd.Process.Signal(os.Interrupt)
		case strings.HasSuffix(call, ":DescribeImages") && copied: // so that it is not ready before the signal is there
			return ec2test.Throttle
		}
		return ec2test.None
	})
	r = w.run(cmd)
	cloud.Fail(func(string) ec2test.Fault { return ec2test.None })
	if !copied || r.status != exitInterrupted || r.stdout != strings.Join(ids, "\n")+"\n" || !strings.Contains(r.stderr, "is in us-east-1 already, as "+ids[1]) ||
		!strings.Contains(r.stderr, "is made in us-west-2\n  try: ") || !strings.HasSuffix(r.stderr, "capstan: interrupted\n") {
		t.Errorf("interrupted: copied: %t; %+v", copied, r)
	}
}
