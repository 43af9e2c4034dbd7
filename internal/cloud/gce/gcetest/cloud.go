// Package gcetest starts Google Cloud for tests: the program in test/gce, with
// credentials for it, behind a proxy that can be told to make trouble.
package gcetest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"capstan/internal/repo/registrytest"
)

// Project is the one that there is.
const Project = "a-project"

// Zone is one where machines can be, and Exhausted one where none can start.
const Zone, Exhausted = "us-central1-a", "us-central1-f"

// Cloud is one that runs.
type Cloud struct {
	Dir string // has the image NAME's disk as NAME.raw
	URL string // of the proxy

	mu    sync.Mutex
	calls []string
	next  func(r *http.Request, n int) Trouble
	sent  atomic.Int64
}

// Trouble is what becomes of a call.
type Trouble struct {
	Status int    // is answered in place of the cloud; 0: none
	Reason string // is told with that
	Lost   bool   // the connection is cut before anything has come
	After  bool   // the connection is cut once the cloud has answered
	Cut    int64  // the connection is cut when so many bytes of the body have come; 0: none
	Flip   bool   // a bit of the body is another one
}

// Start starts a cloud, which ends with the test.
func Start(t testing.TB) *Cloud { return Pretend(t, "") }

// Pretend starts a cloud whose machines boot nothing, have that address and say
// what remotetest wants to hear.
func Pretend(t testing.TB, address string) *Cloud {
	t.Helper()
	c := &Cloud{Dir: t.TempDir()}
	cmd := exec.Command(registrytest.GoogleCloud(t), "-dir", c.Dir, "-address", address)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	served, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the cloud did not start: %v", err)
	}
	to := &url.URL{Scheme: "http", Host: strings.TrimSpace(served)}
	proxy := &httputil.ReverseProxy{
		// The cloud names itself in the sessions that it gives: it is the proxy.
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.serve(proxy, w, r) }))
	c.URL = server.URL
	t.Cleanup(func() {
		server.Close()
		_ = cmd.Process.Kill() // it serves for ever
		_ = cmd.Wait()
	})
	return c
}

func (c *Cloud) serve(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
	var trouble Trouble
	if r.URL.Path != "/token" {
		c.mu.Lock()
		c.calls = append(c.calls, r.Method+" "+r.URL.Path)
		if c.next != nil {
			trouble = c.next(r, len(c.calls))
		}
		c.mu.Unlock()
	}
	if r.Method == "PUT" && strings.HasPrefix(r.URL.Path, "/upload/") {
		r.Body = &counted{r.Body, &c.sent}
	}
	switch {
	case trouble.Lost:
		panic(http.ErrAbortHandler)
	case trouble.Status != 0:
		w.WriteHeader(trouble.Status)
		if trouble.Reason != "" {
			fmt.Fprintf(w, `{"error":{"code":%d,"message":"trouble","errors":[{"reason":%q}]}}`, trouble.Status, trouble.Reason)
		}
		return
	case trouble.After:
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case trouble.Cut > 0 && r.ContentLength > trouble.Cut:
		r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, trouble.Cut), broken{}))
	case trouble.Flip:
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) == 0 {
			panic(http.ErrAbortHandler)
		}
		body[len(body)/2] ^= 1
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	proxy.ServeHTTP(w, r)
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// broken is a connection that was cut.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("cut") }

// Trouble sets what becomes of the calls from now on; n counts them from one,
// and starts anew. nil is none.
func (c *Cloud) Trouble(next func(r *http.Request, n int) Trouble) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next, c.calls = next, nil
}

// Sent is how much of objects has come, in bytes, as often as it came.
func (c *Cloud) Sent() int64 { return c.sent.Load() }

// Calls are the calls since Trouble was called, with their methods and paths.
func (c *Cloud) Calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// Env is an environment, K=V, in which Google's tools find this cloud,
// credentials for it, and no other settings.
func (c *Cloud) Env(t testing.TB) []string {
	t.Helper()
	return []string{
		"GOOGLE_APPLICATION_CREDENTIALS=" + Account(t, c.URL+"/token"), "GOOGLE_CLOUD_PROJECT=", "CLOUDSDK_CONFIG=" + t.TempDir(),
		"CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE=" + c.URL + "/compute/v1/", "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE=" + c.URL + "/storage/v1/",
	}
}

// Account is a file with a service account's credentials, for which tokens are
// had at that URL.
func Account(t testing.TB, tokens string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": Project, "client_email": "tests@" + Project + ".iam.gserviceaccount.com",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "private_key_id": "1", "token_uri": tokens,
	})
	if err != nil {
		t.Fatal(err)
	}
	account := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(account, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	return account
}

// Left lists what is in the cloud: images and buckets, through its APIs.
func (c *Cloud) Left(t testing.TB) (images, buckets []string) {
	t.Helper()
	c.list(t, map[string]*[]string{"/compute/v1/projects/" + Project + "/global/images": &images, "/storage/v1/b?project=" + Project: &buckets})
	return images, buckets
}

// Instances lists what there is of instances, but for images: machines, disks,
// templates, firewall rules, and buckets that were to hold a disk for a moment.
func (c *Cloud) Instances(t testing.TB) []string {
	t.Helper()
	var all []string
	const compute = "/compute/v1/projects/" + Project
	c.list(t, map[string]*[]string{
		compute + "/zones/" + Zone + "/instances": &all, compute + "/zones/" + Zone + "/disks": &all, compute + "/global/instanceTemplates": &all,
		compute + "/zones/" + Zone + "/instanceGroupManagers": &all, compute + "/global/firewalls": &all,
		"/storage/v1/b?project=" + Project: &all,
	})
	return all
}

func (c *Cloud) list(t testing.TB, what map[string]*[]string) {
	t.Helper()
	for path, names := range what {
		req, err := http.NewRequest("GET", c.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer ya29.not-a-secret")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var list struct{ Items []struct{ Name string } }
		err = json.NewDecoder(resp.Body).Decode(&list)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
		}
		for _, one := range list.Items {
			*names = append(*names, one.Name)
		}
	}
}
