package xen

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	got := string(Guest{Name: "redis", Memory: 512<<20 + 1}.Config())
	for _, want := range []string{"name = \"redis\"\nmemory = 513\nvcpus = 1\n", "xl create -c redis.cfg\n", `type = "pvh"`, "target=disk.raw\" ]\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// TestOwns: a folder that has anything else in it is somebody else's.
func TestOwns(t *testing.T) {
	dir := t.TempDir()
	owns := func(want bool) {
		t.Helper()
		if got, err := Owns(dir); err != nil || got != want {
			t.Errorf("%v, %v", got, err)
		}
	}
	owns(false)
	if err := (Guest{Name: "app"}).Write(dir, []byte("kernel"), []byte("ramdisk")); err != nil {
		t.Fatal(err)
	}
	owns(false)
	if err := os.WriteFile(filepath.Join(dir, Disk), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	owns(true)
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	owns(false)
}
