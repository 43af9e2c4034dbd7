package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"capstan/internal/repo/registrytest"
	"capstan/internal/repo/remote"
)

// verified checks that all that can be seen of a store, at this moment, is
// what it should be: blobs by their digests, and no roots but those given.
func verified(t testing.TB, root string, roots ...v1.Hash) {
	t.Helper()
	blobs, err := os.ReadDir(filepath.Join(root, "store", "blobs", "sha256"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, b := range blobs {
		f, err := os.Open(filepath.Join(root, "store", "blobs", "sha256", b.Name()))
		if err != nil {
			t.Error(err)
			continue
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			t.Error(err)
		}
		f.Close()
		if got := hex.EncodeToString(sum.Sum(nil)); got != b.Name() {
			t.Errorf("blob %s has content %s", b.Name(), got)
		}
	}
	seen, err := filepath.Glob(filepath.Join(root, "roots", "*.erofs"))
	if err != nil || len(seen) > len(roots) {
		t.Errorf("roots %q can be seen, %v; want no more than %v", seen, err, roots)
	}
	if len(roots) == 0 && len(blobs) > 0 {
		t.Errorf("%d blobs can be seen of no image", len(blobs))
	}
}

func isBlob(path string) bool { return strings.Contains(path, "/blobs/sha256:") }

// TestCutConnections cuts the connection 100 times while blobs are pulled.
func TestCutConnections(t *testing.T) {
	const cuts = 100
	reg := registrytest.Start(t, registrytest.Options{})
	img := randomImage(t, 400<<10, 8, "linux/amd64")
	upload(t, reg.Host+"/team/app:1", img)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	done, root := 0, ""
	proxy := registrytest.Front(t, reg, nil, func(resp *http.Response) error {
		mu.Lock()
		defer mu.Unlock()
		if done == cuts || !isBlob(resp.Request.URL.Path) || rng.IntN(4) == 0 {
			return nil
		}
		done++
		registrytest.Cut(resp, rng.Int64N(resp.ContentLength))
		verified(t, root) // nothing is there before all of it is
		return nil
	})
	n := imageName(t, proxy.Host+"/team/app:1")
	pulled, failed := 0, 0
	for more := true; more; {
		store, dir := newStore(t)
		mu.Lock()
		root = dir
		mu.Unlock()
		e, err := Pull(t.Context(), store, client(remote.Options{}), n, PullOptions{})
		if err != nil {
			failed++
			sentence(t, err)
			verified(t, root)
			if list, err := store.List(t.Context()); err != nil || len(list) > 0 {
				t.Errorf("after a pull that failed there are %v, %v", list, err)
			}
		} else {
			pulled++
			verified(t, root, e.Digest)
			complete(t, store, root, digestOf(t, img))
		}
		mu.Lock()
		more = done < cuts
		mu.Unlock()
	}
	t.Logf("%d cuts: %d pulls went through, %d failed", done, pulled, failed)
	if pulled == 0 {
		t.Error("no pull went through")
	}
}

// TestDeadBlob has one blob whose connection always breaks.
func TestDeadBlob(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	img := randomImage(t, 10<<10, 8, "linux/amd64")
	upload(t, reg.Host+"/app:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	dead := digestOf(t, layers[5]).String()
	proxy := registrytest.Front(t, reg, nil, func(resp *http.Response) error {
		if strings.HasSuffix(resp.Request.URL.Path, dead) {
			registrytest.Cut(resp, 0)
		}
		return nil
	})
	store, root := newStore(t)
	_, err = Pull(t.Context(), store, client(remote.Options{}), imageName(t, proxy.Host+"/app:1"), PullOptions{})
	if err == nil || !strings.Contains(err.Error(), dead) || !strings.Contains(err.Error(), "breaks off again and again") {
		t.Errorf("Pull: %v", err)
	}
	sentence(t, err)
	verified(t, root)
	// A connection may break before the answer's head has come, or after it: each
	// is tried six times, the one within the other.
	if n := proxy.Count(http.MethodGet, "/v2/app/blobs/"+dead); n < 6 || n > 6*6 {
		t.Errorf("the blob was asked for %d times", n)
	}
}

// sentence checks that an error is one line, with a hint.
func sentence(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 700 {
		t.Errorf("not a sentence: %v", err)
	}
}

// TestLyingRegistry pulls from registries that give what they should not.
func TestLyingRegistry(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	img := randomImage(t, 100<<10, 3, "linux/amd64")
	upload(t, reg.Host+"/team/app:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	lied := "/v2/team/app/blobs/" + digestOf(t, layers[1]).String()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	size := m.Layers[1].Size
	flush := func(w http.ResponseWriter) { w.(http.Flusher).Flush() } // no Content-Length then
	for name, c := range map[string]struct {
		path, want string
		answer     func(w http.ResponseWriter)
	}{
		"another blob": {lied, "has content of the digest", func(w http.ResponseWriter) {
			w.Write(make([]byte, size))
		}},
		"a longer blob": {lied, fmt.Sprintf("should have %d bytes, and has more", size), func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", strconv.FormatInt(size+1, 10))
			w.Write(make([]byte, size+1))
		}},
		"a shorter blob": {lied, fmt.Sprintf("should have %d bytes, and has %d", size, size-1), func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", strconv.FormatInt(size-1, 10))
			w.Write(make([]byte, size-1))
		}},
		"a shorter blob without a length": {lied, "bytes early", func(w http.ResponseWriter) {
			flush(w)
			w.Write(make([]byte, size/2))
		}},
		"a blob without end": {lied, "and has more", func(w http.ResponseWriter) {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}},
		"a part that was not asked for": {lied, "another part", func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 7-%d/%d", size+6, size))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(make([]byte, size))
		}},
		"a huge manifest": {"/v2/team/app/manifests/1", "more than 4 MiB", func(w http.ResponseWriter) {
			for {
				if _, err := w.Write([]byte(strings.Repeat(" ", 4096))); err != nil {
					return
				}
			}
		}},
		"a page": {"/v2/team/app/manifests/1", "no JSON", func(w http.ResponseWriter) {
			w.Write([]byte("<html>Welcome to the hotel's network</html>"))
		}},
		"a manifest that is an index": {"/v2/team/app/manifests/1", "also an index", func(w http.ResponseWriter) {
			w.Write([]byte(`{"schemaVersion":2,"layers":[],"manifests":[]}`))
		}},
		"a manifest of 2015": {"/v2/team/app/manifests/1", "vnd.docker.distribution.manifest.v1", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema1Signed))
			w.Write([]byte(`{"schemaVersion":1}`))
		}},
		"a foreign layer": {"/v2/team/app/manifests/1", string(types.DockerForeignLayer), func(w http.ResponseWriter) {
			w.Write(withLayer(types.DockerForeignLayer))
		}},
		"an unknown layer": {"/v2/team/app/manifests/1", "application/x-chart", func(w http.ResponseWriter) {
			w.Write(withLayer("application/x-chart"))
		}},
		"a huge config": {"/v2/team/app/manifests/1", "its config has 999999999 bytes", func(w http.ResponseWriter) {
			w.Write([]byte(`{"schemaVersion":2,"layers":[],"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":999999999,"digest":"` + emptyDigest + `"}}`))
		}},
		"a digest that is a path": {"/v2/team/app/manifests/1", "no image manifest", func(w http.ResponseWriter) {
			w.Write([]byte(`{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":1,"digest":"../../x"}],"config":{"digest":"` + emptyDigest + `"}}`))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := registrytest.Front(t, reg, func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != c.path {
					return false
				}
				c.answer(w)
				return true
			}, nil)
			store, root := newStore(t)
			_, err := Pull(t.Context(), store, client(remote.Options{}), imageName(t, proxy.Host+"/team/app:1"), PullOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Pull: %v; want it to say %q", err, c.want)
			}
			sentence(t, err)
			verified(t, root)
			if list, err := store.List(t.Context()); err != nil || len(list) > 0 {
				t.Errorf("there are %v, %v", list, err)
			}
		})
	}
}

const emptyDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func withLayer(t types.MediaType) []byte {
	return []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"` + emptyDigest +
		`"},"layers":[{"mediaType":"` + string(t) + `","size":1,"digest":"` + emptyDigest + `","urls":["http://127.0.0.1:1/x"]}]}`)
}

// TestBrokenLayers pulls images whose layers are what their digests say, and
// of no use.
func TestBrokenLayers(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	whole := newLayer(t, tarOf(t, "file", strings.Repeat("content ", 10000)), types.OCILayer)
	truncated := &blobLayer{plain: whole.plain, blob: whole.blob[:len(whole.blob)/2], mediaType: types.OCILayer}
	other := &blobLayer{plain: tarOf(t, "other", "x"), blob: whole.blob, mediaType: types.OCILayer}
	for name, c := range map[string]struct {
		layer v1.Layer
		want  string
	}{
		"truncated": {truncated, "unexpected EOF"},
		"diff ID":   {other, "the image's config says"},
	} {
		t.Run(name, func(t *testing.T) {
			ref := reg.Host + "/" + strings.ReplaceAll(name, " ", "-") + ":1"
			upload(t, strings.ToLower(ref), imageOf(t, whole, c.layer))
			store, root := newStore(t)
			_, err := Pull(t.Context(), store, client(remote.Options{}), imageName(t, strings.ToLower(ref)), PullOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Pull: %v; want it to say %q", err, c.want)
			}
			sentence(t, err)
			verified(t, root)
		})
	}
}

// TestRedirect has a registry that keeps its blobs elsewhere.
func TestRedirect(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{Auth: true})
	img := randomImage(t, 10<<10, 2, "linux/amd64")
	from, _ := newStore(t)
	c := client(remote.Options{Keychain: password{}})
	n := imageName(t, reg.Host+"/team/app:1")
	if _, err := from.Put(t.Context(), n, img); err != nil {
		t.Fatal(err)
	}
	digest := push(t, c, from, n)

	var mu sync.Mutex
	var seen []http.Header
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Header)
		mu.Unlock()
		if r.URL.Query().Has("ask") && r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", r.URL.Query().Get("ask"))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h, err := v1.NewHash(filepath.Base(r.URL.Path))
		if err != nil || strings.HasPrefix(r.URL.Path, "/none") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		layer, err := img.LayerByDigest(h)
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		blob, err := layer.Compressed()
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		defer blob.Close()
		io.Copy(w, blob)
	}))
	defer storage.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(storage.URL, "http://"), ":")
	for name, r := range map[string]struct{ to, want string }{
		"another port":       {storage.URL, ""},
		"another name":       {"http://localhost:" + port, ""},
		"asks for password":  {storage.URL + "?ask=" + "Basic+realm=x", "wants other credentials"},
		"brings a password":  {"http://a:b@localhost:" + port, "with a password in the address"},
		"another host":       {"http://storage.invalid", "plain HTTP"},
		"another protocol":   {"ftp://localhost", "ftp"},
		"what is not there":  {storage.URL + "/none", "has no blob"},
		"in circles":         {"", "redirects"},
		"asks for other's":   {storage.URL + "?ask=" + "Bearer+realm=\"" + storage.URL + "/token\"", "wants other credentials"},
		"asks for a token's": {storage.URL + "?ask=" + "Bearer+realm=\"http://localhost:" + port + "/token\"", "wants other credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			mu.Lock()
			seen = nil
			mu.Unlock()
			proxy := registrytest.Front(t, reg, func(w http.ResponseWriter, req *http.Request) bool {
				if !isBlob(req.URL.Path) {
					return false
				}
				to, query, _ := strings.Cut(r.to, "?")
				target := to + "/" + filepath.Base(req.URL.Path) + "?" + query
				if r.to == "" {
					target = req.URL.Path
				}
				w.Header().Set("Location", target)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}, nil)
			store, root := newStore(t)
			e, err := Pull(t.Context(), store, c, imageName(t, proxy.Host+"/team/app:1"), PullOptions{})
			if r.want == "" {
				if err != nil || e.Digest != digest {
					t.Errorf("Pull: %+v, %v", e, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), r.want) {
				t.Errorf("Pull: %v; want it to say %q", err, r.want)
			} else {
				verified(t, root)
			}
			sentence(t, err)
			mu.Lock()
			defer mu.Unlock()
			for _, h := range seen {
				if h.Get("Authorization") != "" || h.Get("Cookie") != "" {
					t.Errorf("the other host was sent %v", h)
				}
			}
			if r.want == "" && len(seen) < 3 {
				t.Errorf("the other host was asked %d times", len(seen))
			}
		})
	}
}

// TestNoRanges pulls from a server that sends blobs as a whole or not at all.
func TestNoRanges(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	img := randomImage(t, 50<<10, 2, "linux/amd64")
	upload(t, reg.Host+"/app:1", img)
	var mu sync.Mutex
	cut := map[string]bool{}
	proxy := registrytest.Front(t, reg, func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	}, func(resp *http.Response) error {
		mu.Lock()
		defer mu.Unlock()
		if path := resp.Request.URL.Path; isBlob(path) && !cut[path] {
			cut[path] = true
			registrytest.Cut(resp, resp.ContentLength/2)
		}
		return nil
	})
	store, root := newStore(t)
	e, err := Pull(t.Context(), store, client(remote.Options{}), imageName(t, proxy.Host+"/app:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(cut) != 3 {
		t.Errorf("%d blobs were cut, want 3", len(cut))
	}
	complete(t, store, root, e.Digest)
}

// TestStall pulls a blob on which nothing moves any more.
func TestStall(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	img := randomImage(t, 50<<10, 2, "linux/amd64")
	upload(t, reg.Host+"/app:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	slow := "/v2/app/blobs/" + digestOf(t, layers[0]).String()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	proxy := registrytest.Front(t, reg, func(w http.ResponseWriter, r *http.Request) bool {
		stalled := false
		if r.URL.Path == slow {
			once.Do(func() {
				stalled = true
				w.Header().Set("Content-Length", strconv.FormatInt(m.Layers[0].Size, 10))
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
				<-r.Context().Done() // the client gives up
			})
		}
		return stalled
	}, nil)
	store, root := newStore(t)
	e, err := Pull(t.Context(), store, client(remote.Options{Stall: time.Second}), imageName(t, proxy.Host+"/app:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := proxy.Count(http.MethodGet, slow); n < 2 {
		t.Errorf("the blob was asked for %d times, want 2, or more if this machine stalls too", n)
	}
	complete(t, store, root, e.Digest)
}

// TestCancelPull ends a pull in the middle.
func TestCancelPull(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	upload(t, reg.Host+"/app:1", randomImage(t, 50<<10, 6, "linux/amd64"))
	ctx, cancel := context.WithCancel(t.Context())
	proxy := registrytest.Front(t, reg, func(_ http.ResponseWriter, r *http.Request) bool {
		if isBlob(r.URL.Path) && r.Header.Get("Range") == "" {
			cancel()
			<-r.Context().Done()
		}
		return false
	}, nil)
	store, root := newStore(t)
	_, err := Pull(ctx, store, client(remote.Options{}), imageName(t, proxy.Host+"/app:1"), PullOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Pull: %v", err)
	}
	verified(t, root)
	left, _ := os.ReadDir(filepath.Join(root, "store", "tmp"))
	if len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}
