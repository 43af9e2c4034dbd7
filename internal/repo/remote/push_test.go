package remote

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ggcrname "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"capstan/internal/repo"
	"capstan/internal/repo/registrytest"
)

var linux = v1.Platform{OS: "linux", Architecture: "amd64"}

func newStore(t testing.TB) (*repo.Store, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "capstan")
	s, err := repo.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return s, root
}

func randomImage(t testing.TB, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(20<<10, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// send pushes what the store has under ref to where n says.
func send(t testing.TB, s *repo.Store, ref string, n repo.Name) error {
	t.Helper()
	d, err := s.Lookup(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := s.Elsewhere(d, n)
	if err != nil {
		t.Fatal(err)
	}
	return quick(Options{}).Push(t.Context(), n, s, d, PushOptions{Mounts: mounts})
}

// sent counts the requests that came to a proxy, by method; of POST those that
// ask for a mount apart.
type sent struct {
	mu     sync.Mutex
	counts map[string]int
	order  []string // of PUT's paths
}

func (s *sent) see(_ http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	method := r.Method
	if r.URL.Query().Has("mount") {
		method = "mount"
	}
	s.counts[method]++
	if r.Method == http.MethodPut {
		s.order = append(s.order, r.URL.Path)
	}
	return false
}

func (s *sent) take(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.counts[method]
	delete(s.counts, method)
	return n
}

func TestPush(t *testing.T) {
	for name, opts := range map[string]registrytest.Options{"reference": {}, "other": {Other: true}} {
		t.Run(name, func(t *testing.T) { testPush(t, registrytest.Start(t, opts), opts.Other) })
	}
}

// testPush is for a registry that has each blob once for each repository, or,
// if shared, once for all of them.
func testPush(t *testing.T, reg *registrytest.Registry, shared bool) {
	var s sent
	host := registrytest.Front(t, reg, s.see, nil).Host
	store, _ := newStore(t)
	first := randomImage(t, 8)
	if _, err := store.Put(t.Context(), imageName(t, host+"/team/app:1"), first); err != nil {
		t.Fatal(err)
	}
	layers, err := first.Layers()
	if err != nil {
		t.Fatal(err)
	}
	base, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	extra, err := random.Layer(1000, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	second, err := mutate.AppendLayers(base, extra)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), imageName(t, "built"), second); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ref, to             string
		uploads, mounts, of int
	}{
		{host + "/team/app:1", host + "/team/app:1", 9, 0, 9},
		{host + "/team/app:1", host + "/team/app:1", 0, 0, 9},  // again
		{"built", host + "/team/app:2", 2, 0, 10},              // upon it: one layer and the config
		{"built", host + "/other/app:1", 2, 8, 10},             // elsewhere: the base's layers are mounted
		{"built", host + "/other/app@digest-of-it", 0, 0, 10},  // by digest alone
		{host + "/team/app:1", host + "/other/app:0", 0, 1, 9}, // only its config is new there
	} {
		n := c.to
		if at := strings.Index(n, "@"); at > 0 {
			d, err := store.Lookup(t.Context(), c.ref)
			if err != nil {
				t.Fatal(err)
			}
			n = n[:at] + "@" + d.Digest.String()
		}
		if err := send(t, store, c.ref, imageName(t, n)); err != nil {
			t.Fatal(err)
		}
		if shared && strings.Contains(n, "/other/") {
			c.uploads, c.mounts = 0, 0
		}
		patches, mounts, heads := s.take(http.MethodPatch), s.take("mount"), s.take(http.MethodHead)
		if patches != c.uploads || mounts != c.mounts || heads != c.of {
			t.Errorf("%s to %s: %d uploads, %d mounts, %d looks; want %d, %d, %d", c.ref, n, patches, mounts, heads, c.uploads, c.mounts, c.of)
		}
		s.mu.Lock()
		if last := s.order[len(s.order)-1]; !strings.Contains(last, "/manifests/") {
			t.Errorf("the last that was sent is %s", last)
		}
		s.mu.Unlock()
		ref, err := ggcrname.ParseReference(n)
		if err != nil {
			t.Fatal(err)
		}
		img, err := ggcr.Image(ref)
		if err == nil {
			err = validate.Image(img)
		}
		if err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func TestPushIndex(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	store, root := newStore(t)
	if _, err := store.Put(t.Context(), imageName(t, "seed"), randomImage(t, 1)); err != nil {
		t.Fatal(err)
	}
	idx, err := random.Index(2000, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	path, err := layout.FromPath(filepath.Join(root, "store"))
	if err == nil {
		err = path.AppendIndex(idx, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "multi:1"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := send(t, store, "multi:1", imageName(t, reg.Host+"/multi:1")); err != nil {
		t.Fatal(err)
	}
	ref, err := ggcrname.ParseReference(reg.Host + "/multi:1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ggcr.Index(ref)
	if err == nil {
		err = validate.Index(got)
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := idx.Digest()
	if d, derr := got.Digest(); err != nil || derr != nil || d != want {
		t.Errorf("the index is %v, %v; want %v, %v", d, derr, want, err)
	}
}

// TestPushBreaks has connections break in uploads, and a registry that is busy.
func TestPushBreaks(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	var mu sync.Mutex
	n := 0
	host := registrytest.Front(t, reg, func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodPatch && r.Method != http.MethodPut && r.Method != http.MethodPost {
			return false
		}
		switch n++; n % 5 {
		case 2:
			panic(http.ErrAbortHandler)
		case 4:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}, nil).Host
	store, _ := newStore(t)
	to := imageName(t, host+"/app:1")
	img := randomImage(t, 2)
	if _, err := store.Put(t.Context(), to, img); err != nil {
		t.Fatal(err)
	}
	err := send(t, store, to.String(), to)
	for range 5 { // each try has only so many breaks
		if err == nil {
			break
		}
		err = send(t, store, to.String(), to)
	}
	if err != nil {
		t.Fatal(err)
	}
	ref, err := ggcrname.ParseReference(to.String())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ggcr.Image(ref)
	if err == nil {
		err = validate.Image(got)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestPushRefused(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{Auth: true})
	var s sent
	host := registrytest.Front(t, reg, s.see, nil).Host
	store, _ := newStore(t)
	to := imageName(t, host+"/app:1")
	if _, err := store.Put(t.Context(), to, randomImage(t, 2)); err != nil {
		t.Fatal(err)
	}
	err := send(t, store, to.String(), to)
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusUnauthorized || !strings.Contains(e.Hint(), "capstan login "+host) {
		t.Errorf("Push without a password: %v", err)
	}
	if posts := s.take(http.MethodPost); posts > 0 {
		t.Errorf("%d uploads were begun", posts)
	}
}
