//go:build e2e

package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// soakNumber is a number of the environment, as make soak sets them, or the
// one that continuous integration has the time for.
func soakNumber(t *testing.T, name string, short int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, and should be a number", name, text)
	}
	return n
}

// soakTime is for how long rounds are repeated: not at all unless make soak
// says so.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SOAK_TIME")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SOAK_TIME is %q, and should be a span such as 10m", text)
	}
	return d
}

// soakSeed is where random choices begin: SOAK_SEED, or another each time.
func soakSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("SOAK_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("SOAK_SEED is %q, and should be a number", text)
	}
	return seed
}

// do runs a command that has to succeed, from any goroutine.
func (c *capstan) do(t *testing.T, args ...string) result {
	r, err := c.try(args...)
	if err != nil {
		t.Error(err)
	} else if r.status != 0 {
		t.Errorf("capstan %s: status %d\n%s%s", strings.Join(args, " "), r.status, r.stdout, r.stderr)
	}
	return r
}

// list is what ps shows.
func (c *capstan) list(t *testing.T, flags ...string) []state {
	t.Helper()
	r := c.do(t, append([]string{"ps", "--format", "json"}, flags...)...)
	var all []state
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Errorf("ps --format json printed %q: %v", r.stdout, err)
	}
	return all
}

// checkStoreEmpty fails the test if, once all that can be removed is, a file is
// left in the root or where temporary files go.
func (c *capstan) checkStoreEmpty(t *testing.T) {
	t.Helper()
	c.must(t, "prune", "--all", "--instances")
	const bookkeeping = " instances.lock store/index.json store/lock store/oci-layout "
	for _, root := range []string{c.root, c.tmp} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err == nil && !strings.Contains(bookkeeping, " "+name+" ") && !strings.HasPrefix(name, "guest/") {
				t.Errorf("after prune there is still %s", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	dirs, err := filepath.Glob(filepath.Join(c.root, "store", "tmp", "*"))
	if err != nil || len(dirs) > 0 {
		t.Errorf("after prune there are still %v, %v", dirs, err)
	}
	if out := c.must(t, "prune"); !strings.HasPrefix(out, "freed 0B: 0 blobs, 0 roots, 0 temporary files") {
		t.Errorf("a second prune says %q", out)
	}
}
