package opaque_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/image"
	"capstan/internal/image/disk/disktest"
	"capstan/internal/image/opaque"
	"capstan/internal/repo"
	"capstan/internal/repo/registrytest"
	"capstan/internal/repo/remote"
)

// TestRegistry: a disk image goes to a registry and comes back as it was,
// through skopeo and crane too, and through an archive.
func TestRegistry(t *testing.T) {
	crane := registrytest.Crane(t)
	reg := registrytest.Start(t, registrytest.Options{})
	client := remote.New(remote.Options{})
	raw := disktest.BIOS("/old.so", false)
	for _, format := range []string{"qcow2", "raw"} {
		t.Run(format, func(t *testing.T) {
			from, _ := open(t)
			n := name(t, reg.Host+"/old/"+format+":1")
			if _, _, err := opaque.Import(t.Context(), from, n, bytes.NewReader(convert(t, raw, "-O", format)), opaque.Options{Version: "1"}); err != nil {
				t.Fatal(err)
			}
			d, err := from.Lookup(t.Context(), n.String())
			if err != nil {
				t.Fatal(err)
			}
			if err := client.Push(t.Context(), n, from, d, remote.PushOptions{}); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			run(t, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", "docker://"+n.String(), "oci:"+dir+":x")
			run(t, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", "oci:"+dir+":x", fmt.Sprintf("docker://%s/skopeo/%s:1", reg.Host, format))
			run(t, crane, "pull", "--format=oci", n.String(), filepath.Join(dir, "crane"))
			run(t, crane, "push", filepath.Join(dir, "crane"), fmt.Sprintf("%s/crane/%s:1", reg.Host, format))
			for _, by := range []string{"old", "skopeo", "crane"} {
				to, _ := open(t)
				entry, err := image.Pull(t.Context(), to, client, name(t, fmt.Sprintf("%s/%s/%s:1", reg.Host, by, format)), image.PullOptions{})
				if err != nil {
					t.Fatalf("%s: %v", by, err)
				}
				check(t, to, entry, d.Digest, raw)
			}
			var archive bytes.Buffer
			if err := from.Save(t.Context(), &archive, repo.OCIArchive, n.String()); err != nil {
				t.Fatal(err)
			}
			to, _ := open(t)
			entries, err := to.Load(t.Context(), &archive, repo.Name{})
			if err != nil || len(entries) != 1 {
				t.Fatalf("loaded %v, %v", entries, err)
			}
			check(t, to, entries[0], d.Digest, raw)
		})
	}
}

func check(t *testing.T, store *repo.Store, entry repo.Entry, digest v1.Hash, raw []byte) {
	t.Helper()
	img, got, err := store.Image(t.Context(), entry.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if entry.Digest != digest || got.Disk == "" {
		t.Errorf("the store has %+v, want %s", got, digest)
	}
	checkPrepared(t, store, img, entry.Digest, raw)
	if problems := store.Check(t.Context(), true); len(problems) > 0 {
		t.Errorf("Check: %v", problems)
	}
}

func name(t *testing.T, s string) repo.Name {
	t.Helper()
	n, err := repo.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
}
