package repo

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"redis":                      "| |redis|latest|",
		"redis:7":                    "| |redis|7|",
		"cloudius/cassandra":         "|cloudius|cassandra|latest|",
		"a/b/c/d:x_Y.z-1":            "|a/b/c|d|x_Y.z-1|",
		"localhost/x":                "localhost| |x|latest|",
		"LocalHost:5000/x:1":         "localhost:5000| |x|1|",
		"example.org/team/app":       "example.org|team|app|latest|",
		"Example.ORG/team/app:A":     "example.org|team|app|A|",
		"10.0.0.1:80/app":            "10.0.0.1:80| |app|latest|",
		"[::1]:5000/app":             "[::1]:5000| |app|latest|",
		"host:5000/app:5000":         "host:5000| |app|5000|",
		"redis@" + someDigest:        "| |redis||" + someDigest,
		"redis:7@" + someDigest:      "| |redis|7|" + someDigest,
		"a--b/c__d/e.f_g":            "|a--b/c__d|e.f_g|latest|",
		"x.y":                        "| |x.y|latest|",
		"docker.io/redis:7":          "docker.io|library|redis|7|",
		"Index.docker.io/a/b":        "docker.io|a|b|latest|",
		"registry-1.docker.io/redis": "docker.io|library|redis|latest|",
		"host.org/a/b@" + someDigest: "host.org|a|b||" + someDigest,
	} {
		n, err := ParseName(in)
		if err != nil {
			t.Errorf("ParseName(%q): %v", in, err)
			continue
		}
		digest := ""
		if n.Digest.Hex != "" {
			digest = n.Digest.String()
		}
		got := strings.Join([]string{n.Registry, n.Namespace, n.Name, n.Tag, digest}, "|")
		if want = strings.ReplaceAll(want, " ", ""); got != want {
			t.Errorf("ParseName(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestParseNameErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "is empty",
		"Redis":                             "upper-case",
		"cloudius/Redis:3":                  "upper-case",
		"redis:":                            "is not a tag",
		"redis:-x":                          "is not a tag",
		"redis:" + strings.Repeat("x", 129): "is not a tag",
		"redis:a b":                         "is not a tag",
		"/redis":                            "empty component",
		"redis/":                            "empty component",
		"a//b":                              "empty component",
		"../etc":                            "is not a registry's host",
		"a/../b":                            "not allowed",
		"a/.b":                              "not allowed",
		"a_-b":                              "not allowed",
		"-a":                                "not allowed",
		"redis@sha256:12":                   "is not a digest",
		"redis@" + someDigest + "0":         "is not a digest",
		"redis@md5:0":                       "is not a digest",
		"https://example.org/redis":         "is a URL",
		"host:port/redis":                   "is not a registry's host",
		"host.org:123456/redis":             "is not a registry's host",
		"a/b\x00":                           "not allowed",
		"redis\n":                           "not allowed",
		strings.Repeat("a/", 200) + "b":     "longer than",
	} {
		n, err := ParseName(in)
		var nameErr *NameError
		if !errors.As(err, &nameErr) {
			t.Errorf("ParseName(%q) = %v, %v; want a NameError", in, n, err)
			continue
		}
		if !strings.Contains(err.Error(), want) || nameErr.Hint() == "" {
			t.Errorf("ParseName(%q): %v (hint %q), want it to say %q", in, err, nameErr.Hint(), want)
		}
	}
	_, err := ParseName("cloudius/Redis:A")
	if hint := err.(*NameError).Hint(); !strings.Contains(hint, "cloudius/redis:A") {
		t.Errorf("hint %q does not show the name in lower case", hint)
	}
}

func TestNameJSON(t *testing.T) {
	for _, n := range []Name{{}, mustName(t, "redis"), mustName(t, "h.org/a/b:1@"+someDigest)} {
		data, err := json.Marshal(n)
		var back Name
		if err == nil {
			err = json.Unmarshal(data, &back)
		}
		if err != nil || back != n {
			t.Errorf("%v became %s and then %v: %v", n, data, back, err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"redis", "a/b:c@" + someDigest, "[::1]:5/x", "localhost/x:y", "A/b", "a..b/c", "x@y@z", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("error of %q is not one plain line: %q", s, err)
			}
			return
		}
		again, err := ParseName(n.String())
		if err != nil || again != n {
			t.Fatalf("%q is %+v, whose string %q is %+v, %v", s, n, n.String(), again, err)
		}
		for _, part := range strings.Split(n.Namespace+"/"+n.Name, "/") {
			if part == ".." || part == "." || n.Name == "" {
				t.Fatalf("%q has component %q", s, part)
			}
		}
		if n.Tag == "" && n.Digest.Hex == "" {
			t.Fatalf("%q has neither tag nor digest", s)
		}
	})
}

func mustName(t testing.TB, s string) Name {
	t.Helper()
	n, err := ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
