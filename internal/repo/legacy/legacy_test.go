package legacy_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"capstan/internal/repo"
	"capstan/internal/repo/legacy"
	"capstan/internal/repo/legacy/legacytest"
)

func name(t *testing.T, s string) repo.Name {
	t.Helper()
	n, err := repo.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func gz(s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.Bytes()
}

const index = `format_version: "1"
version: 1.10
created: 2015-04-01T12:30:00
description: An old image
build: make image
platform: OSv
`

func TestTree(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"cloudius/osv-base/osv-base.qemu": "disk", "cloudius/osv-base/osv-base.vbox": "other", "cloudius/osv-base/index.yaml": index,
		"cloudius/only-vbox/only-vbox.vbox": "disk", "cloudius/only-gce/only-gce.gce": "gs://bucket/x.tar.gz",
		"cloudius/Upper/Upper.qemu": "disk", "cloudius/empty/index.yaml": index,
		"mine/mine.qemu": "disk", "mine/mine.qemu.cache": "x", "bad/index/index.yaml": "]",
		"damaged/x/x.qemu": "disk", "damaged/x/index.yaml": "{", "file": "x",
	} {
		path = filepath.Join(root, "repository", filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tree := range []legacy.Tree{legacy.TreeUnder(root), legacy.TreeAt(root), legacy.TreeAt(filepath.Join(root, "repository"))} {
		list, err := tree.List()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, img := range list {
			rel, err := filepath.Rel(root, img.Path)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, img.Name+" "+filepath.ToSlash(rel))
		}
		want := []string{
			"cloudius/only-vbox repository/cloudius/only-vbox/only-vbox.vbox",
			"cloudius/osv-base repository/cloudius/osv-base/osv-base.qemu",
			"damaged/x repository/damaged/x/x.qemu",
			"mine repository/mine/mine.qemu",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s has\n%s\nwant\n%s", tree, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	tree := legacy.TreeUnder(root)
	img, ok := tree.Find(name(t, "cloudius/osv-base"))
	created := time.Date(2015, 4, 1, 12, 30, 0, 0, time.UTC)
	if want := (legacy.Index{Version: "1.10", Created: created, Description: "An old image", Build: "make image"}); !ok || img.Index != want {
		t.Errorf("found %+v, %v; want %+v", img, ok, want)
	}
	for _, other := range []string{"cloudius/osv-base:1", "docker.io/cloudius/osv-base", "cloudius/none", "cloudius/only-gce"} {
		if img, ok := tree.Find(name(t, other)); ok {
			t.Errorf("found %+v for %s", img, other)
		}
	}
	if list, err := legacy.TreeUnder(t.TempDir()).List(); err != nil || len(list) > 0 {
		t.Errorf("nothing at all has %v, %v", list, err)
	}
}

// serve serves files and returns the repository.
func serve(t *testing.T, h http.Handler) *legacy.Remote {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	r, err := legacy.Open(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func files(n int) fstest.MapFS {
	fs := fstest.MapFS{}
	for i := range n {
		dir := fmt.Sprintf("team/app%03d/", i)
		fs[dir+"index.yaml"] = &fstest.MapFile{Data: []byte(index)}
		fs[dir+fmt.Sprintf("app%03d.qemu.gz", i)] = &fstest.MapFile{Data: gz(fmt.Sprint("disk ", i))}
	}
	fs["team/boxed/boxed.vbox.gz"] = &fstest.MapFile{Data: gz("boxed"), ModTime: time.Date(2014, 1, 1, 0, 0, 0, 0, time.UTC)}
	fs["packages/x.mpm"] = &fstest.MapFile{Data: []byte("x")}
	fs["packages/index.yaml"] = &fstest.MapFile{Data: []byte(index)}
	fs["team/Upper/index.yaml"] = &fstest.MapFile{Data: []byte(index)}
	return fs
}

func TestList(t *testing.T) {
	for _, tokens := range []bool{false, true} {
		for _, page := range []int{1, 2, 7, 1000} {
			r := serve(t, &legacytest.Server{Files: files(25), Page: page, Tokens: tokens})
			list, err := r.List(t.Context())
			if err != nil || len(list) != 26 || list[0] != "team/app000" || list[25] != "team/boxed" {
				t.Errorf("tokens %v, pages of %d: %v, %v", tokens, page, list, err)
			}
		}
	}
}

func TestImage(t *testing.T) {
	r := serve(t, &legacytest.Server{Files: files(3), Page: 10})
	for _, tt := range []struct{ name, key, holds string }{
		{"team/app001", "team/app001/app001.qemu.gz", "disk 1"},
		{"team/boxed", "team/boxed/boxed.vbox.gz", "boxed"},
	} {
		found, err := r.Image(t.Context(), name(t, tt.name))
		if err != nil {
			t.Fatal(err)
		}
		packed, err := io.ReadAll(found.Body)
		if err != nil || !bytes.Equal(packed, gz(tt.holds)) || found.Key != tt.key || found.Size != int64(len(packed)) || found.Index.Created.IsZero() {
			t.Errorf("%s: %+v, %v", tt.name, found, err)
		}
		if err := found.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Image(t.Context(), name(t, "team/none")); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("an image that is not there: %v", err)
	}
	for _, odd := range []string{"none", "team/app001:2", "a/b/c", "docker.io/team/app001"} {
		var bad *repo.NameError
		if _, err := r.Image(t.Context(), name(t, odd)); !errors.As(err, &bad) {
			t.Errorf("%s: %v", odd, err)
		}
	}
}

// TestLies: whatever a repository answers, it is an error in a sentence.
func TestLies(t *testing.T) {
	endless := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, text); err != nil {
					return
				}
			}
		}
	}
	answer := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
	}
	const truncated = `<ListBucketResult><IsTruncated>true</IsTruncated>`
	for what, h := range map[string]http.Handler{
		"no XML":              answer("hello"),
		"other XML":           answer("<html></html>"),
		"nothing":             answer(""),
		"half a page":         answer(truncated),
		"the same page again": answer(truncated + "<Contents><Key>a/b/index.yaml</Key></Contents></ListBucketResult>"),
		"no end of tokens":    answer(truncated + "<NextContinuationToken>x</NextContinuationToken></ListBucketResult>"),
		"an endless page":     endless("<ListBucketResult><Contents>"),
		"an error":            http.NotFoundHandler(),
		"redirects":           http.RedirectHandler("/again", http.StatusFound),
		"a way out of encryption": http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "http://example.org/", http.StatusFound)
		}),
	} {
		list, err := serve(t, h).List(t.Context())
		var said *legacy.Error
		if !errors.As(err, &said) || said.Hint() == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: listed %v, %v", what, list, err)
		}
	}
	big := serve(t, endless("description: x\n"))
	if _, err := big.Image(t.Context(), name(t, "a/b")); err == nil || !strings.Contains(err.Error(), "KiB") {
		t.Errorf("an endless index.yaml: %v", err)
	}
	broken := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasSuffix(req.URL.Path, ".gz") {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half")
	}))
	found, err := broken.Image(t.Context(), name(t, "a/b"))
	if err != nil {
		t.Fatal(err)
	}
	defer found.Body.Close()
	if _, err := io.ReadAll(found.Body); err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("half a disk: %v", err)
	}
}

func TestOpen(t *testing.T) {
	insecure := func(host string) bool { return host == "old.example.org" }
	for address, ok := range map[string]bool{
		"https://bucket.s3.amazonaws.com/":  true,
		"https://bucket.s3.amazonaws.com":   true,
		"http://127.0.0.1:8080/":            true,
		"http://localhost/repo":             true,
		"http://[::1]:80/":                  true,
		"http://old.example.org/":           true,
		"http://osv.capstan.s3.example.org": false,
		"http://127.0.0.1.example.org/":     false,
		"ftp://example.org/":                false,
		"example.org/x":                     false,
		"https://user:secret@example.org/":  false,
		"https://example.org/?x=y":          false,
		"":                                  false,
		"http://%zz":                        false,
	} {
		_, err := legacy.Open(address, insecure)
		var said *legacy.Error
		if (err == nil) != ok || err != nil && (!errors.As(err, &said) || said.Hint() == "") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestPackages: packages are listed over pages, described and sent.
func TestPackages(t *testing.T) {
	files := fstest.MapFS{"team/app/index.yaml": {Data: []byte(index)}, "packages/deep/x.yaml": {Data: []byte("x")}, "packages/large.yaml": {Data: make([]byte, 2<<20)}}
	for _, name := range []string{"osv.cli", "lib", "osv.bootstrap"} {
		files["packages/"+name+".yaml"] = &fstest.MapFile{Data: []byte("name: " + name + "\n")}
		files["packages/"+name+".mpm"] = &fstest.MapFile{Data: []byte("the archive of " + name)}
	}
	server := httptest.NewServer(&legacytest.Server{Files: files, Page: 2})
	defer server.Close()
	r, err := legacy.Open(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	names, err := r.Packages(t.Context())
	if err != nil || strings.Join(names, " ") != "large lib osv.bootstrap osv.cli" {
		t.Errorf("listed: %q, %v", names, err)
	}
	if text, err := r.Manifest(t.Context(), "osv.cli"); err != nil || string(text) != "name: osv.cli\n" {
		t.Errorf("described: %q, %v", text, err)
	}
	if _, err := r.Manifest(t.Context(), "large"); err == nil {
		t.Error("a description without a bound was taken")
	}
	archive, size, err := r.Package(t.Context(), "lib")
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if text, err := io.ReadAll(archive); err != nil || string(text) != "the archive of lib" || size != int64(len(text)) {
		t.Errorf("sent: %q, %d, %v", text, size, err)
	}
	_, _, err = r.Package(t.Context(), "none")
	_, merr := r.Manifest(t.Context(), "none")
	if !errors.Is(err, repo.ErrNotFound) || !errors.Is(merr, repo.ErrNotFound) {
		t.Errorf("what is not there: %v, %v", err, merr)
	}
}
