//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/repo/registrytest"
)

// TestContainerEngine: an image that Capstan built and pushed runs in a
// container engine as it is, one that the engine built upon it runs as a
// virtual machine, and both say the same in both.
func TestContainerEngine(t *testing.T) {
	c, p := newProbe(t), newPodman(t)
	host := registrytest.Start(t, registrytest.Options{}).Host
	ours, theirs := host+"/team/ours", host+"/team/theirs"

	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("Capstanfile", "base: probe\ncmdline: /probe where\nworkdir: /some/where\nuser: mate\nmemory: 64M\nfiles:\n  /some/where/note: note\n")
	write("note", "from the host\n")
	c.must(t, "build", ours, dir)
	c.must(t, "push", ours)
	p.must("pull", "-q", "--tls-verify=false", ours)

	write("Dockerfile", "FROM "+ours+"\nCOPY note /etc/note\nENV FROM_ENGINE=yes\nUSER 7:8\nENTRYPOINT [\"/probe\"]\nCMD [\"where\"]\n")
	p.must("build", "-q", "--pull=never", "-t", theirs, dir)
	p.must("push", "-q", "--tls-verify=false", theirs)

	for _, tt := range []struct {
		image   string
		command []string
		want    string
	}{
		{ours, nil, "dir /some/where uid 1000 gid 1001 host brig\n"},
		{ours, []string{"/probe", "read", "note"}, "from the host\n"},
		{theirs, nil, "dir /some/where uid 7 gid 8 host brig\n"},
		{theirs, []string{"read", "/etc/note"}, "from the host\n"},
	} {
		if got := c.must(t, append([]string{"run", "--rm", "--hostname", "brig", tt.image}, tt.command...)...); got != tt.want {
			t.Errorf("capstan run %s %q: %q, want %q", tt.image, tt.command, got, tt.want)
		}
		if got := p.run("brig", tt.image, tt.command...); got != tt.want {
			t.Errorf("podman run %s %q: %q, want %q", tt.image, tt.command, got, tt.want)
		}
	}
	env := map[string][]string{ours: {"/probe", "env"}, theirs: {"env"}}
	for _, image := range []string{ours, theirs} {
		vm := c.must(t, "run", "--rm", "--entrypoint", "/probe", image, "env")
		container := p.run("brig", image, env[image]...)
		for _, line := range strings.Split(strings.TrimSpace(container), "\n") {
			// What the engine itself adds is about the container.
			if name, _, _ := strings.Cut(line, "="); name == "HOSTNAME" || name == "container" || name == "TERM" || name == "HOME" {
				continue
			}
			if !strings.Contains("\n"+vm, "\n"+line+"\n") {
				t.Errorf("%s: the container's environment has %q, the machine's is\n%s", image, line, vm)
			}
		}
	}
}

// podman is a container engine with a storage of its own.
type podman struct {
	t   *testing.T
	dir string
}

func newPodman(t *testing.T) *podman {
	need(t, "podman", "podman")
	need(t, "runc", "runc")
	return &podman{t, t.TempDir()}
}

func (p *podman) must(args ...string) string {
	p.t.Helper()
	all := append([]string{
		"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"), "--tmpdir", filepath.Join(p.dir, "tmp"),
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc",
	}, args...)
	cmd := exec.Command("podman", all...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return stdout.String()
}

// run runs a container, within the limits of a host that is one itself.
func (p *podman) run(hostname, image string, args ...string) string {
	p.t.Helper()
	all := []string{"run", "--rm", "--network", "none", "--hostname", hostname,
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", image}
	return p.must(append(all, args...)...)
}
