//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// probe is the name of the image of testdata/probe.
const probe = "probe"

// newProbe returns a capstan with the probe's image in it.
func newProbe(t *testing.T) *capstan {
	t.Helper()
	c := newCapstan(t)
	dir := t.TempDir()
	c.probe = filepath.Join(dir, "probe")
	buildProbe(t, c.probe, "amd64")
	file := "cmdline: /probe\nfiles:\n  /probe: probe\n  /etc/passwd: passwd\n  /etc/group: group\nmemory: 64M\nenv:\n  FROM_IMAGE: kept\n  CHANGED: before\n"
	for name, text := range map[string]string{
		"Capstanfile": file,
		"passwd":      "root:x:0:0::/root:/bin/sh\nmate:x:1000:1001::/:/bin/sh\n",
		"group":       "root:x:0:\nmates:x:1001:\ncrew:x:1002:mate\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.must(t, "build", probe, dir)
	return c
}

// ready starts the probe with flags and mode "stay", and waits until it says
// that it is ready.
func (c *capstan) ready(t *testing.T, name string, flags []string, args ...string) {
	t.Helper()
	line := append([]string{"run", "-d", "--name", name}, flags...)
	c.must(t, append(append(line, probe, "/probe", "stay"), args...)...)
	c.waitReady(t, name, 1)
}

// waitReady waits until the probe has said so a number of times. (The line's end
// may still be held back, since an exit report would begin with it.)
func (c *capstan) waitReady(t *testing.T, name string, times int) {
	t.Helper()
	c.eventually(t, name, func(time.Duration) error {
		if log := c.must(t, "logs", name); strings.Count(log, "ready") < times {
			return errNotReady
		}
		return nil
	})
}

// buildProbe builds the probe's program.
func buildProbe(t *testing.T, to, arch string) {
	t.Helper()
	build := exec.Command("go", "build", "-trimpath", "-o", to, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the probe: %v\n%s", err, out)
	}
}
