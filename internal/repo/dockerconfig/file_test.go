package dockerconfig

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// fileOf returns a file of the given content, or none.
func fileOf(t *testing.T, content string) File {
	t.Helper()
	f := File{Path: filepath.Join(t.TempDir(), "docker", "config.json")}
	if content != "" {
		if err := errors.Join(os.Mkdir(filepath.Dir(f.Path), 0o755), os.WriteFile(f.Path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// content returns what is in the file.
func content(t *testing.T, f File) (v map[string]any) {
	t.Helper()
	data, err := os.ReadFile(f.Path)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func object(t *testing.T, s string) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

const bobSecret = `{"auth":"Ym9iOnNlY3JldA=="}`

func TestPutAndRemove(t *testing.T) {
	const more = `"credHelpers":{"gcr.io":"gcloud"},"HttpHeaders":{"X":"<&>"},"unknown":{"n":12345678901234567890}`
	for _, c := range []struct{ name, before, host, with, without string }{
		{"no file", "", "r.example.org", `{"auths":{"r.example.org":` + bobSecret + `}}`, `{"auths":{}}`},
		{"empty", " \n", "localhost:5000", `{"auths":{"localhost:5000":` + bobSecret + `}}`, `{"auths":{}}`},
		{"Docker Hub", `{}`, "docker.io", `{"auths":{"https://index.docker.io/v1/":` + bobSecret + `}}`, `{"auths":{}}`},
		{
			"other keys", `{"auths":{"other":{"auth":"eA==","email":"e"}},` + more + `}`, "r.example.org",
			`{"auths":{"other":{"auth":"eA==","email":"e"},"r.example.org":` + bobSecret + `},` + more + `}`,
			`{"auths":{"other":{"auth":"eA==","email":"e"}},` + more + `}`,
		},
		{
			"written otherwise", `{"auths":{"https://r.example.org/v1/":{"auth":"eA=="},"docker.io":{},"r.example.org/team":{"auth":"eQ=="}}}`, "r.example.org",
			`{"auths":{"r.example.org":` + bobSecret + `,"docker.io":{},"r.example.org/team":{"auth":"eQ=="}}}`,
			`{"auths":{"docker.io":{},"r.example.org/team":{"auth":"eQ=="}}}`,
		},
		{"podman's Docker Hub", `{"auths":{"docker.io":{"auth":"eA=="}}}`, "docker.io", `{"auths":{"https://index.docker.io/v1/":` + bobSecret + `}}`, `{"auths":{}}`},
	} {
		f := fileOf(t, c.before)
		where, err := f.Put(t.Context(), c.host, "bob", "secret")
		if err != nil || where != f.Path || !reflect.DeepEqual(content(t, f), object(t, c.with)) {
			t.Errorf("%s: Put: %v, %v in %s", c.name, content(t, f), err, where)
		}
		if fi, err := os.Stat(f.Path); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", c.name, fi.Mode(), err)
		}
		if data, _ := os.ReadFile(f.Path); strings.Contains(c.before, "unknown") && (!strings.Contains(string(data), "12345678901234567890") || !strings.Contains(string(data), "<&>")) {
			t.Errorf("%s: what was there is written otherwise: %s", c.name, data)
		}
		there, err := f.Remove(t.Context(), c.host)
		if err != nil || !there || !reflect.DeepEqual(content(t, f), object(t, c.without)) {
			t.Errorf("%s: Remove: %v, %v, %v", c.name, content(t, f), there, err)
		}
		if there, err := f.Remove(t.Context(), c.host); err != nil || there {
			t.Errorf("%s: Remove again: %v, %v", c.name, there, err)
		}
		if left, err := os.ReadDir(filepath.Dir(f.Path)); err != nil || len(left) != 1 {
			t.Errorf("%s: left %v, %v", c.name, left, err)
		}
	}
}

func TestBrokenFile(t *testing.T) {
	for _, broken := range []string{"{", "[]", "null", `{"auths":null}`, `{"auths":[]}`, `{"auths":{"x":"y"}}`, `{"credsStore":1}`, `{"credHelpers":"x"}`, strings.Repeat(" ", maxSize) + "{}"} {
		f := fileOf(t, broken)
		var wrong *Error
		if _, err := f.Put(t.Context(), "r.example.org", "bob", "secret"); !errors.As(err, &wrong) || wrong.Hint() == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.20q: Put: %v", broken, err)
		}
		if _, err := f.Remove(t.Context(), "r.example.org"); !errors.As(err, &wrong) {
			t.Errorf("%.20q: Remove: %v", broken, err)
		}
		if data, err := os.ReadFile(f.Path); err != nil || string(data) != broken {
			t.Errorf("%.20q: became %.40q, %v", broken, data, err)
		}
	}
}

func TestDefault(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("USERPROFILE", dir)
	t.Setenv("DOCKER_CONFIG", "")
	if f, err := Default(); err != nil || f.Path != filepath.Join(dir, ".docker", "config.json") {
		t.Errorf("%v, %v", f, err)
	}
	t.Setenv("DOCKER_CONFIG", filepath.Join(dir, "other"))
	if f, err := Default(); err != nil || f.Path != filepath.Join(dir, "other", "config.json") {
		t.Errorf("%v, %v", f, err)
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{`{}`, `{"auths":{"r.example.org":{"auth":"eA=="}}}`, `{"auths":{"http://r.example.org/v2/":{}},"x":[1.0]}`, `{"Auths":{}}`, `null`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "cred") {
			return // of helpers, which would be run
		}
		file := fileOf(t, s)
		if _, err := file.Put(t.Context(), "r.example.org", "bob", "secret"); err != nil {
			return
		}
		entry, ok := content(t, file)["auths"].(map[string]any)["r.example.org"]
		if !ok || !reflect.DeepEqual(entry, object(t, bobSecret)) {
			t.Fatalf("%q became %v", s, content(t, file))
		}
		if there, err := file.Remove(t.Context(), "r.example.org"); err != nil || !there {
			t.Fatalf("%q: Remove: %v, %v", s, there, err)
		}
	})
}
