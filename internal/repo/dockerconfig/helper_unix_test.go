//go:build unix

package dockerconfig

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestKeepsALink(t *testing.T) {
	f := fileOf(t, `{}`)
	link := File{Path: filepath.Join(t.TempDir(), "config.json")}
	if err := os.Symlink(f.Path, link.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := link.Put(t.Context(), "r.example.org", "bob", "secret"); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link.Path); err != nil || to != f.Path || len(content(t, f)["auths"].(map[string]any)) != 1 {
		t.Errorf("the link leads to %s, %v; what it led to has %v", to, err, content(t, f))
	}
}

// helperScript is a credential helper: its keyring is a directory.
const helperScript = `#!/bin/sh
cd "$KEYRING" || exit 1
input=$(cat)
case $1 in
store)
	url=$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
	printf %s "$input" >"$(printf %s "$url" | tr /: __)" ;;
get)
	file=$(printf %s "$input" | tr /: __)
	[ -e "$file" ] || { echo "credentials not found in native keychain"; exit 1; }
	cat "$file" ;;
erase)
	[ ! -e locked ] || { echo "the keyring is locked"; exit 1; }
	rm "$(printf %s "$input" | tr /: __)" ;;
esac
`

func TestHelpers(t *testing.T) {
	bin, ring := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-ring"), []byte(helperScript), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("KEYRING", ring)
	for _, c := range []struct{ config, host, kept string }{
		{`{"credsStore":"ring"}`, "docker.io", "https___index.docker.io_v1_"},
		{`{"auths":{"r.example.org":{"auth":"eA=="}},"credHelpers":{"r.example.org":"ring"}}`, "r.example.org", "r.example.org"},
		{`{"credsStore":"nothing","credHelpers":{"docker.io":"ring"}}`, "docker.io", "https___index.docker.io_v1_"},
	} {
		f := fileOf(t, c.config)
		where, err := f.Put(t.Context(), c.host, "bob", `se"cret`)
		if err != nil || where != "docker-credential-ring" {
			t.Errorf("%s: Put: %v in %s", c.config, err, where)
		}
		data, err := os.ReadFile(f.Path)
		if err != nil || strings.Contains(string(data), "auth\"") || !strings.Contains(string(data), keyOf(c.host)) {
			t.Errorf("%s: the file has %s, %v", c.config, data, err)
		}
		kept, err := os.ReadFile(filepath.Join(ring, c.kept))
		if err != nil || !reflect.DeepEqual(object(t, string(kept)), map[string]any{"ServerURL": keyOf(c.host), "Username": "bob", "Secret": `se"cret`}) {
			t.Errorf("%s: the keyring has %s, %v", c.config, kept, err)
		}
		for _, want := range []bool{true, false} {
			if there, err := f.Remove(t.Context(), c.host); err != nil || there != want {
				t.Errorf("%s: Remove: %v, %v; want %v", c.config, there, err, want)
			}
		}
		if left, err := os.ReadDir(ring); err != nil || len(left) > 0 {
			t.Errorf("%s: the keyring has %v, %v", c.config, left, err)
		}
	}
	f := fileOf(t, `{"credsStore":"absent"}`)
	if _, err := exec.LookPath("docker-credential-absent"); err == nil {
		t.Fatal("there is a docker-credential-absent")
	}
	if _, err := f.Put(t.Context(), "r.example.org", "bob", "secret"); err == nil || !strings.Contains(err.Error(), "docker-credential-absent, which is not installed") {
		t.Errorf("an absent helper: %v", err)
	}
	f = fileOf(t, `{"credsStore":"ring"}`)
	if _, err := f.Put(t.Context(), "r.example.org", "bob", "secret"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ring, "locked"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Remove(t.Context(), "r.example.org"); err == nil || !strings.Contains(err.Error(), "the keyring is locked") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a helper that fails: %v", err)
	}
}
