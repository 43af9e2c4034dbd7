package remote

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	ggcrname "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"

	"capstan/internal/repo"
	"capstan/internal/repo/registrytest"
)

// publish puts an image into a registry without any of our code.
func publish(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	r, err := ggcrname.ParseReference(ref)
	if err == nil {
		err = ggcr.Write(r, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestMirrors(t *testing.T) {
	origin := registrytest.Start(t, registrytest.Options{})
	mirror := registrytest.Start(t, registrytest.Options{})
	closed := registrytest.Start(t, registrytest.Options{Auth: true})
	both, only, third := randomImage(t, 2), randomImage(t, 2), randomImage(t, 2)
	publish(t, origin.Host+"/team/app:1", both)
	publish(t, mirror.Host+"/copies/team/app:1", both)
	publish(t, origin.Host+"/team/app:2", only)
	publish(t, origin.Host+"/team/app:3", third)
	publish(t, mirror.Host+"/copies/team/app:3", third)
	// The mirror has lost the blobs of the third.
	first := registrytest.Front(t, mirror, func(w http.ResponseWriter, r *http.Request) bool {
		layers, err := third.Layers()
		if err != nil {
			t.Error(err)
		}
		for _, l := range layers {
			if h, _ := l.Digest(); strings.HasSuffix(r.URL.Path, h.String()) {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
		}
		return false
	}, nil)
	last := registrytest.Front(t, origin, nil, nil)
	c := quick(Options{Registries: repo.Registries{{Host: last.Host, Mirrors: []string{"127.0.0.1:1", closed.Host, first.Host + "/copies"}}}})
	for tag, want := range map[string]struct {
		img    v1.Image
		origin bool // which is asked for the manifest
		blobs  bool // and for blobs
	}{"1": {both, false, false}, "2": {only, true, true}, "3": {third, false, true}} {
		img, err := c.Image(t.Context(), imageName(t, last.Host+"/team/app:"+tag), linux)
		if err != nil {
			t.Fatal(err)
		}
		if asked := last.Count(http.MethodGet, "/v2/team/app/manifests/"+tag) > 0; asked != want.origin {
			t.Errorf("tag %s: the registry was asked: %v, want %v", tag, asked, want.origin)
		}
		for _, l := range img.Layers {
			var buf buffer
			if err := img.Download(t.Context(), l, &buf); err != nil {
				t.Errorf("tag %s: %v", tag, err)
			}
			if h, _, _ := v1.SHA256(bytes.NewReader(buf.data)); h != l.Digest {
				t.Errorf("tag %s: layer %s has content %s", tag, l.Digest, h)
			}
			if asked := last.Count(http.MethodGet, "/v2/team/app/blobs/"+l.Digest.String()) > 0; asked != want.blobs {
				t.Errorf("tag %s: the registry was asked for a blob: %v, want %v", tag, asked, want.blobs)
			}
		}
	}
	// What is nowhere is the registry's word, not a mirror's.
	_, err := c.Image(t.Context(), imageName(t, last.Host+"/team/none"), linux)
	if err == nil || !strings.Contains(err.Error(), "registry "+last.Host+" has no team/none:latest") {
		t.Errorf("Image: %v", err)
	}
}
