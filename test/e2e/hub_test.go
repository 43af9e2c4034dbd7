//go:build e2e && images

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capstan/internal/repo/registrytest"
)

const imagesDir = "../../testdata/images"

// hub is a registry that stands for Docker Hub.
type hub struct{ host string }

// newHub starts a registry, and lets c take it for a mirror of Docker Hub.
func newHub(t *testing.T, c *capstan) hub {
	t.Helper()
	h := hub{registrytest.Start(t, registrytest.Options{}).Host}
	config := fmt.Sprintf("registries:\n- host: docker.io\n  mirrors: [%q]\n", h.host)
	if err := os.MkdirAll(c.root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.root, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// push makes an image of testdata/images and pushes it under its official name,
// by another program than Capstan.
func (h hub) push(t *testing.T, recipe, official string, flags ...string) {
	t.Helper()
	skopeo := need(t, "skopeo", "skopeo")
	began := time.Now()
	var problem strings.Builder
	script := exec.Command(filepath.Join(imagesDir, "make.sh"), recipe)
	script.Stderr = &problem
	layout, err := script.Output()
	if err != nil {
		t.Fatalf("making the image %s: %v\n%s", recipe, err, &problem)
	}
	made := time.Now()
	args := []string{"--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"}
	args = append(append(args, flags...), "oci:"+strings.TrimSpace(string(layout))+":latest", "docker://"+h.host+"/"+official)
	if out, err := exec.Command(skopeo, args...).CombinedOutput(); err != nil {
		t.Fatalf("pushing %s: %v\n%s", official, err, out)
	}
	t.Logf("%s: made in %s (if not kept from before), pushed in %s", official, seconds(made.Sub(began)), seconds(time.Since(made)))
}

// times are when an instance was made, for which its image had to be there,
// and when it was started, for which its disks had to be.
func (c *capstan) times(t *testing.T, name string) (made, started time.Time) {
	t.Helper()
	var all []struct {
		Created time.Time `json:"created"`
		State   struct {
			Started time.Time `json:"started"`
		} `json:"state"`
	}
	if err := json.Unmarshal([]byte(c.must(t, "inspect", name)), &all); err != nil || len(all) != 1 {
		t.Fatalf("inspect %s: %v", name, err)
	}
	return all[0].Created, all[0].State.Started
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
