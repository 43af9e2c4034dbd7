package gce

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CLOUDSDK_CONFIG", dir)
	for _, name := range []string{"CLOUDSDK_CORE_PROJECT", "CLOUDSDK_COMPUTE_ZONE", "CLOUDSDK_COMPUTE_REGION", "CLOUDSDK_ACTIVE_CONFIG_NAME"} {
		t.Setenv(name, "")
	}
	if err := os.Mkdir(filepath.Join(dir, "configurations"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"active_config":                 "work\n",
		"configurations/config_default": "[core]\nproject = other\n",
		"configurations/config_work":    "[auth]\nproject = no\n[core]\naccount = me\nproject = mine\n\n[compute]\nzone = europe-west4-b\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := []string{setting("core", "project"), setting("core", "nothing"), region()}; !slices.Equal(got, []string{"mine", "", "europe-west4"}) {
		t.Errorf("%q", got)
	}
	t.Setenv("CLOUDSDK_ACTIVE_CONFIG_NAME", "default")
	t.Setenv("CLOUDSDK_COMPUTE_ZONE", "us-east1-c")
	if got := []string{setting("core", "project"), region()}; !slices.Equal(got, []string{"other", "us-east1"}) {
		t.Errorf("%q", got)
	}
}

func TestNames(t *testing.T) {
	for image, want := range map[string]string{
		"redis": "redis", "registry.example/Team/App:1.0@sha256:abc": "registry-example-team-app-1-0-sha256-abc",
		"7zip": "zip", "": "capstan", "///": "capstan", strings.Repeat("x", 49) + "-yz": strings.Repeat("x", 49),
	} {
		if got := NameOf(image); got != want || !ValidName.MatchString(got) {
			t.Errorf("%q: %q", image, got)
		}
	}
	for name, ok := range map[string]bool{"a": true, "a-1": true, "a-": false, "1a": false, "A": false, "a_b": false, strings.Repeat("a", MaxName): true, strings.Repeat("a", MaxName+1): false} {
		if ValidName.MatchString(name) != ok {
			t.Errorf("%q: %v", name, !ok)
		}
	}
	if got := label("V1.2/B c" + strings.Repeat("d", 99)); got != "v1_2_b_c"+strings.Repeat("d", 55) {
		t.Errorf("label %q", got)
	}
}

// A list's page may be empty though there are more.
func TestPages(t *testing.T) {
	pages := map[string]string{"": `{"nextPageToken":"a"}`, "a": `{"items":[{"name":"x"},{"name":"y"}],"nextPageToken":"b"}`, "b": `{"items":[{"name":"z"}]}`}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("filter") == "labels.of=me" && r.FormValue("fields") == "nextPageToken,items(name)" {
			fmt.Fprint(w, pages[r.FormValue("pageToken")])
		}
	}))
	defer server.Close()
	c := &Client{opts: Options{Tries: 1}, http: http.DefaultClient, compute: server.URL + "/"}
	list, err := all[machine](t.Context(), c, server.URL+"/instances", "labels.of=me", "name")
	if err != nil || len(list) != 3 || list[2].Name != "z" {
		t.Errorf("%+v, %v", list, err)
	}
	pages["b"] = `{"items":[]}` + strings.Repeat(" ", maxAnswer)
	if _, err := all[machine](t.Context(), c, server.URL+"/instances", "labels.of=me", "name"); err == nil || !strings.Contains(err.Error(), "longer than 8388608 bytes") {
		t.Errorf("%v", err)
	}
	pages["b"] = `{"items":{}}`
	if _, err := all[machine](t.Context(), c, server.URL+"/instances", "labels.of=me", "name"); err == nil || !strings.Contains(err.Error(), "reading the list of instances") {
		t.Errorf("%v", err)
	}
}

// What is told to be called is all that a push calls; nothing is.
func TestDryRun(t *testing.T) {
	t.Setenv("CLOUDSDK_CONFIG", t.TempDir())
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "none"))
	var calls []string
	c, err := Open(t.Context(), Options{Project: "p", Location: "us-east1", Version: "v1", Would: func(call string) { calls = append(calls, call) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Push(t.Context(), testPush()); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(calls, "\n")
	for _, want := range []string{
		"GET https://compute.googleapis.com/compute/v1/projects/p/global/images/web-", "POST https://storage.googleapis.com/storage/v1/b?project=p",
		"POST https://storage.googleapis.com/upload/storage/v1/b/capstan-", "Content-Range: bytes 0-8388607/*",
		"POST https://compute.googleapis.com/compute/v1/projects/p/global/images?requestId=", `"storageLocations":["us-east1"]`,
		"DELETE https://storage.googleapis.com/storage/v1/b/capstan-",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if _, err := Open(t.Context(), Options{Project: "p"}); !errors.As(err, new(*CredentialsError)) {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("GOOGLE_CLOUD_PROJECT", "")
	t.Setenv("CLOUDSDK_CORE_PROJECT", "")
	if _, err := Open(t.Context(), Options{Would: func(string) {}}); !errors.Is(err, ErrNoProject) {
		t.Errorf("without a project: %v", err)
	}
}
