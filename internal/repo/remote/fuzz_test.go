package remote

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"capstan/internal/repo"
)

// FuzzDocument reads what a registry may say a manifest or index is.
func FuzzDocument(f *testing.F) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	f.Add(string(types.OCIManifestSchema1), `{"schemaVersion":2,"config":{"digest":"`+digest+`"},"layers":[{"digest":"`+digest+`","size":1}]}`)
	f.Add("application/json; charset=utf-8", `{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"digest":"`+digest+`","platform":{"os":"linux","architecture":"amd64","variant":"v2"}}]}`)
	f.Add(string(types.DockerManifestSchema1), `{"schemaVersion":1}`)
	f.Add("", `{"layers":[],"manifests":[]}`)
	f.Add("a;b;c", "null")
	f.Fuzz(func(t *testing.T, header, data string) {
		kind, err := kindOf(header, []byte(data))
		if err != nil {
			line(t, err)
			return
		}
		if !kind.IsImage() && !kind.IsIndex() {
			t.Fatalf("kind %q was let through", kind)
		}
		if kind.IsIndex() {
			if _, err := choose(repo.Name{Name: "x"}, []byte(data), linux); err != nil {
				line(t, err)
			}
			return
		}
		m, err := readManifest([]byte(data))
		if err != nil {
			line(t, err)
			return
		}
		for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
			if len(d.Digest.Hex) != 64 || strings.Trim(d.Digest.Hex, "0123456789abcdef") != "" || d.Size < 0 {
				t.Fatalf("descriptor %+v was let through", d)
			}
		}
	})
}

func line(t *testing.T, err error) {
	t.Helper()
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
		t.Fatalf("not a line: %q", err)
	}
}
