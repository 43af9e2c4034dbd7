package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"capstan/internal/repo"
	"capstan/internal/repo/registrytest"
	"capstan/internal/repo/remote"
)

// newStore returns an empty store and the directory that it is in.
func newStore(t testing.TB) (*repo.Store, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "capstan")
	store, err := repo.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return store, root
}

// client returns a client that does not wait long.
func client(opts remote.Options) *remote.Client {
	opts.Pause = time.Millisecond
	return remote.New(opts)
}

func imageName(t testing.TB, s string) repo.Name {
	t.Helper()
	n, err := repo.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// randomImage returns an image of n gzipped layers for a platform.
func randomImage(t testing.TB, size int64, n int, platform string) v1.Image {
	t.Helper()
	img, err := random.Image(size, int64(n))
	if err != nil {
		t.Fatal(err)
	}
	return forPlatform(t, img, platform)
}

func forPlatform(t testing.TB, img v1.Image, platform string) v1.Image {
	t.Helper()
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Variant = p.OS, p.Architecture, p.Variant
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// upload puts an image or index into a registry without any of our code.
func upload(t testing.TB, ref string, what ggcr.Taggable) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err == nil {
		err = ggcr.Push(r, what)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func digestOf(t testing.TB, img interface{ Digest() (v1.Hash, error) }) v1.Hash {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// complete checks that the store is in order and has the root of each image,
// and nothing that is on its way.
func complete(t testing.TB, store *repo.Store, root string, images ...v1.Hash) {
	t.Helper()
	for _, p := range store.Check(t.Context(), true) {
		t.Errorf("store: %s", p.Text)
	}
	var want []string
	for _, h := range images {
		want = append(want, filepath.Join(root, "roots", h.Hex+".erofs"))
	}
	got, err := filepath.Glob(filepath.Join(root, "roots", "*.erofs"))
	if err != nil || len(got) != len(want) {
		t.Errorf("the roots are %q, %v; want %q", got, err, want)
	}
	for _, path := range want {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(filepath.Join(root, "store", "tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

// pieces counts what a progress was told.
type pieces struct {
	mu    sync.Mutex
	begun map[string]int64 // how much was done at first
	done  map[string]bool
}

func (p *pieces) Update(piece string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun == nil {
		p.begun, p.done = map[string]int64{}, map[string]bool{}
	}
	if _, ok := p.begun[piece]; !ok {
		p.begun[piece] = done
	}
	p.done[piece] = done == total
}

func TestPull(t *testing.T) {
	for name, opts := range map[string]registrytest.Options{"reference": {}, "other": {Other: true}} {
		t.Run(name, func(t *testing.T) { testPull(t, registrytest.Start(t, opts)) })
	}
}

func testPull(t *testing.T, reg *registrytest.Registry) {
	store, root := newStore(t)
	c := client(remote.Options{})
	img := randomImage(t, 300<<10, 8, "linux/amd64")
	upload(t, reg.Host+"/team/app:1", img)
	var told pieces
	e, err := Pull(t.Context(), store, c, imageName(t, reg.Host+"/team/app:1"), PullOptions{Progress: &told})
	if err != nil || e.Digest != digestOf(t, img) || e.Name.String() != reg.Host+"/team/app:1" {
		t.Fatalf("Pull: %+v, %v", e, err)
	}
	complete(t, store, root, e.Digest)
	if len(told.done) != 9 || !told.done[flattening] {
		t.Errorf("told of %v", told.done)
	}
	for piece, done := range told.done {
		if !done || told.begun[piece] != 0 {
			t.Errorf("%s: begun with %d, done %v", piece, told.begun[piece], done)
		}
	}

	// A second image that shares seven of eight layers: one is downloaded.
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	one, err := random.Layer(300<<10, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	second, err := mutate.AppendLayers(empty.Image, append(layers[:7:7], one)...)
	if err != nil {
		t.Fatal(err)
	}
	upload(t, reg.Host+"/team/app:2", second)
	told = pieces{}
	e2, err := Pull(t.Context(), store, c, imageName(t, reg.Host+"/team/app:2"), PullOptions{Progress: &told})
	if err != nil || e2.Digest != digestOf(t, second) {
		t.Fatalf("Pull: %+v, %v", e2, err)
	}
	complete(t, store, root, e.Digest, e2.Digest)
	delete(told.begun, flattening)
	downloaded := 0
	for _, first := range told.begun {
		if first == 0 {
			downloaded++
		}
	}
	if len(told.begun) != 8 || downloaded != 1 {
		t.Errorf("downloaded %d of %d layers, want 1 of 8", downloaded, len(told.begun))
	}

	// By digest, and again.
	for range 2 {
		byDigest := imageName(t, reg.Host+"/team/app@"+e.Digest.String())
		if e3, err := Pull(t.Context(), store, c, byDigest, PullOptions{}); err != nil || e3.Digest != e.Digest {
			t.Errorf("Pull by digest: %+v, %v", e3, err)
		}
	}
	complete(t, store, root, e.Digest, e2.Digest)
}

func TestPullIndex(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	images := map[string]v1.Image{}
	idx := v1.ImageIndex(mutate.IndexMediaType(empty.Index, types.DockerManifestList))
	for _, p := range []string{"unknown/unknown", "linux/s390x", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/amd64", "windows/amd64"} {
		images[p] = randomImage(t, 1000, 2, p)
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: images[p], Descriptor: v1.Descriptor{Platform: platform}})
	}
	upload(t, reg.Host+"/multi:1", idx)
	for want, asked := range map[string]string{"linux/arm/v7": "linux/arm/v7", "linux/arm64/v8": "linux/arm64", "linux/amd64": "linux/amd64", "linux/s390x": "linux/s390x"} {
		store, root := newStore(t)
		p, err := v1.ParsePlatform(asked)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range []string{reg.Host + "/multi:1", reg.Host + "/multi@" + digestOf(t, idx).String()} {
			e, err := Pull(t.Context(), store, client(remote.Options{}), imageName(t, ref), PullOptions{Platform: *p})
			if err != nil || e.Digest != digestOf(t, images[want]) || e.Origin == nil || e.Origin.Digest != digestOf(t, idx) {
				t.Errorf("Pull of %s for %s: %+v, %v", ref, asked, e, err)
			}
			// What was pulled is found by the name it was pulled by.
			if _, found, err := store.Image(t.Context(), ref); err != nil || found.Digest != e.Digest || found.Origin == nil || found.Origin.Digest != e.Origin.Digest {
				t.Errorf("Image(%s): %+v, %v", ref, found, err)
			}
		}
		complete(t, store, root, digestOf(t, images[want]))
	}
	store, _ := newStore(t)
	_, err := Pull(t.Context(), store, client(remote.Options{}), imageName(t, reg.Host+"/multi:1"), PullOptions{Platform: v1.Platform{OS: "linux", Architecture: "riscv64"}})
	if err == nil || !strings.Contains(err.Error(), "is not there for linux/riscv64") {
		t.Errorf("Pull for another platform: %v", err)
	}
}

func TestPullWithPassword(t *testing.T) {
	for _, opts := range []registrytest.Options{{Auth: true}, {Auth: true, TLS: true}} {
		reg := registrytest.Start(t, opts)
		regs := repo.Registries{{Host: reg.Host, CAFile: reg.CAFile}}
		c := client(remote.Options{Registries: regs, Keychain: password{}})
		from, _ := newStore(t)
		to, root := newStore(t)
		n := imageName(t, reg.Host+"/team/app:1")
		e, err := from.Put(t.Context(), n, randomImage(t, 1000, 3, "linux/amd64"))
		if err != nil {
			t.Fatal(err)
		}
		push(t, c, from, n)
		if _, err := Pull(t.Context(), to, client(remote.Options{Registries: regs}), n, PullOptions{}); err == nil || !strings.Contains(err.Error(), "wants other credentials") {
			t.Errorf("Pull without a password: %v", err)
		}
		if got, err := Pull(t.Context(), to, c, n, PullOptions{}); err != nil || got.Digest != e.Digest {
			t.Errorf("Pull: %+v, %v", got, err)
		}
		complete(t, to, root, e.Digest)
		if opts.TLS {
			_, err := Pull(t.Context(), to, client(remote.Options{Keychain: password{}}), n, PullOptions{})
			if err == nil || !strings.Contains(err.Error(), "has a certificate that is not trusted") {
				t.Errorf("Pull without the CA: %v", err)
			}
		}
	}
}

// password is a keychain with the test registry's password.
type password struct{}

func (password) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: registrytest.User, Password: registrytest.Password}, nil
}

// push sends what the store has under n to where n says.
func push(t testing.TB, c *remote.Client, store *repo.Store, n repo.Name) v1.Hash {
	t.Helper()
	d, err := store.Lookup(t.Context(), n.String())
	if err == nil {
		err = c.Push(t.Context(), n, store, d, remote.PushOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest
}

func TestOtherClients(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Fatal("this test needs skopeo: apt-get install skopeo")
	}
	crane := registrytest.Crane(t)
	reg := registrytest.Start(t, registrytest.Options{})
	c := client(remote.Options{})
	from, _ := newStore(t)
	to, root := newStore(t)
	var all []v1.Hash
	for i, mediaType := range []types.MediaType{types.OCIUncompressedLayer, types.OCILayer, types.OCILayerZStd} {
		n := imageName(t, fmt.Sprintf("%s/team/app:%d", reg.Host, i))
		if _, err := from.Put(t.Context(), n, layeredImage(t, mediaType)); err != nil {
			t.Fatal(err)
		}
		digest := push(t, c, from, n)
		all = append(all, digest)
		dir := t.TempDir()
		// Each client takes what we sent and sends it elsewhere.
		run(t, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", "docker://"+n.String(), "oci:"+dir+":x")
		run(t, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", "oci:"+dir+":x", fmt.Sprintf("docker://%s/skopeo/app:%d", reg.Host, i))
		run(t, crane, "pull", "--format=oci", n.String(), filepath.Join(dir, "crane"))
		run(t, crane, "push", filepath.Join(dir, "crane"), fmt.Sprintf("%s/crane/app:%d", reg.Host, i))
		for _, by := range []string{"skopeo", "crane"} {
			e, err := Pull(t.Context(), to, c, imageName(t, fmt.Sprintf("%s/%s/app:%d", reg.Host, by, i)), PullOptions{})
			if err != nil || e.Digest != digest {
				t.Errorf("%s: what it sent is %v, %v; want %s", by, e.Digest, err, digest)
			}
		}
	}
	complete(t, to, root, all...)
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
}
