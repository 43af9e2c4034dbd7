//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capstan/internal/repo/registrytest"
)

// TestRunByName is what an old user of Capstan's types, against a mirror of
// Docker Hub: the name stands for the official image, which is pulled once, and
// the port after the name is forwarded.
func TestRunByName(t *testing.T) {
	c := newCapstan(t)
	reg := registrytest.Start(t, registrytest.Options{})
	config := fmt.Sprintf("registries:\n- host: docker.io\n  mirrors: [%q]\n", reg.Host)
	if err := os.MkdirAll(c.root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.root, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "made", appContext(t, "memcached"))
	c.must(t, "push", "made", reg.Host+"/library/memcached")
	c.must(t, "rmi", "made")

	for _, global := range []string{"--offline=false", "--offline"} {
		name := "e2e-names"
		r := c.run(t, global, "run", "-d", "--name", name, "cloudius/memcached", "-p", "127.0.0.1:0:11211")
		if r.status != 0 || !strings.Contains(r.stderr, "-p 127.0.0.1:0:11211 after the image's name is taken for capstan's own") {
			t.Fatalf("run %s: status %d\n%s", global, r.status, r.stderr)
		}
		address := c.address(t, name, 11211)
		c.eventually(t, name, func(within time.Duration) error { return memcachedClient(t, address, within) })
		c.must(t, "stop", "-t", grace, name)
		c.must(t, "rm", name)
		reg.Stop() // for the second time there is none
	}
	if images := c.must(t, "images", "-q"); images != "docker.io/library/memcached:latest\n" {
		t.Errorf("the store has %q", images)
	}
	c.must(t, "rmi", "cloudius/memcached")
	c.checkNothingLeft(t)
}
