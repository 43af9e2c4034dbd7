package main

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"capstan/internal/repo/registrytest"
)

// TestPushUponBase builds an image on one that came from a registry: what the
// registry is sent of it is one layer and the config, in the base's repository
// and in another.
func TestPushUponBase(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	var mu sync.Mutex
	var sent []string
	host := registrytest.Front(t, reg, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, r.URL.Query().Get("digest"))
		}
		return false
	}, nil).Host
	w := newWorld(t)
	w.env = append(w.env, "CAPSTAN_OFFLINE=false", "DOCKER_CONFIG="+w.dir)
	base := host + "/team/base:1"
	w.write("base/etc/motd", "hello")
	w.must("build", "--from", "base", "base")
	w.must("push", "base", base)
	w.must("rmi", "base")
	w.write("app/Capstanfile", "base: "+base+"\ncmdline: /app\nfiles:\n  /app: app\n")
	w.write("app/app", "one")
	w.must("build", "app", "app")
	below := layersOf(t, base)
	for _, to := range []string{host + "/team/app:1", host + "/team/base:2"} {
		mu.Lock()
		sent = nil
		mu.Unlock()
		w.must("push", "app", to)
		layers := layersOf(t, to)
		if n := len(below); len(layers) != n+1 || !slices.Equal(layers[:n-1], below[:n-1]) {
			t.Fatalf("%s has the layers %v, and its base %v", to, layers, below)
		}
		added := layers[len(layers)-2:]
		slices.Sort(added)
		mu.Lock()
		if slices.Sort(sent); !slices.Equal(sent, added) {
			t.Errorf("%s: sent were %v, want %v", to, sent, added)
		}
		mu.Unlock()
	}
}

// layersOf returns the digests of an image's layers, and at last its config's,
// as the registry has them.
func layersOf(t *testing.T, ref string) (digests []string) {
	t.Helper()
	n, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(n)
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(slices.Clone(m.Layers), m.Config) {
		digests = append(digests, d.Digest.String())
	}
	return digests
}
