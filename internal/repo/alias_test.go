package repo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// aliases is the built-in table with the given one over it.
func aliases(t testing.TB, user string) Aliases {
	t.Helper()
	a, err := LoadAliases(aliasFile(t, user))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func aliasFile(t testing.TB, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "aliases.yaml")
	if err := os.WriteFile(path, []byte(user), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAliasMemory(t *testing.T) {
	a := aliases(t, "db: {image: postgres, memory: 768M}\ncloudius/mysql: mine/mysql\n")
	for in, want := range map[string]int64{
		"docker.io/library/cassandra:4.1": 2 << 30,
		"cloudius/cassandra":              2 << 30,
		"docker.io/library/redis":         0,
		"db":                              768 << 20,
		"mine/mysql":                      0,
	} {
		if got := a.Memory(mustName(t, in)); got != want {
			t.Errorf("Memory(%s) = %d, want %d", in, got, want)
		}
	}
	for _, wrong := range []string{
		"{memory: 2G}", "{image: x, memory: 2}", "{image: x, memory: 0M}", "{image: x, memory: -1G}", "{image: x, memory: 99999999G}",
		"{image: x, gone: y}", "{gone: y, memory: 1G}", "{image: X y}", "{image: x, memory: 2GG}",
	} {
		if _, err := LoadAliases(aliasFile(t, "db: "+wrong)); !errors.As(err, new(*FileError)) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestAliases(t *testing.T) {
	a := aliases(t, `
# mine
cloudius/redis: registry.example.org/team/redis:7-hardened
db: postgres:16
docker.io/library/node: mirror.example.org/node
`)
	for in, want := range map[string]string{
		"cloudius/cassandra":               "docker.io/library/cassandra:latest",
		"cloudius/cassandra:4.1":           "docker.io/library/cassandra:4.1",
		"cloudius/cassandra@" + someDigest: "docker.io/library/cassandra@" + someDigest,
		"cloudius/memcached":               "docker.io/library/memcached:latest",
		"cloudius/mongodb":                 "docker.io/library/mongo:latest",
		"cloudius/nginx":                   "docker.io/library/nginx:latest",
		"cloudius/tomcat":                  "docker.io/library/tomcat:latest",
		"cloudius/osv-tomcat":              "docker.io/library/tomcat:latest",
		"cloudius/osv-openjdk":             "docker.io/library/eclipse-temurin:8",
		"cloudius/osv-openjdk:17":          "docker.io/library/eclipse-temurin:17",
		"cloudius/redis":                   "registry.example.org/team/redis:7-hardened",
		"cloudius/redis:6":                 "registry.example.org/team/redis:6",
		"cloudius/osv-redis":               "docker.io/library/redis:latest",
		"db":                               "postgres:16",
		"node":                             "",
		"docker.io/node:18":                "mirror.example.org/node:18",
		"cassandra":                        "",
		"example.org/cloudius/cassandra":   "",
	} {
		got, ok, err := a.Lookup(mustName(t, in))
		if err != nil || got.String() != want || ok != (want != "") {
			t.Errorf("Lookup(%s) = %s, %v, %v; want %q", in, got, ok, err, want)
		}
	}
}

func TestBuiltinAliases(t *testing.T) {
	a, err := LoadAliases(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	list := a.List()
	if len(list) < 40 {
		t.Errorf("the table has %d names", len(list))
	}
	for _, alias := range list {
		target, _, err := a.Lookup(mustName(t, alias.Name))
		var gone *GoneError
		switch {
		case errors.As(err, &gone):
			if alias.Target != "" || alias.Gone == "" || gone.Hint() == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v: %v (hint %q)", alias, err, gone.Hint())
			}
		case err != nil || target.Registry == "" || target.Namespace == "" || strings.HasSuffix(alias.Target, ":latest"):
			t.Errorf("%+v is %s, %v", alias, target, err)
		}
	}
}

func TestAliasMistakes(t *testing.T) {
	for in, want := range map[string]string{
		"a: b\nc d: e\n":                "2: c d: is no name without a tag",
		"a:7: b\n":                      "1: a:7: is no name without a tag",
		"a:latest: b\n":                 "1: a:latest: is no name without a tag",
		"a@" + someDigest + ": b\n":     "is no name without a tag",
		"a: B\n":                        `1: a: image name "B": "B" has upper-case letters`,
		"a: b\nx:\n- c\n":               "3: x: has neither an image nor a reason",
		"a:\n":                          `1: a: image name "": is empty`,
		"a: {try: b}\n":                 "1: a: has neither",
		"a: {gone: b, tyr: c}\n":        `1: a: "tyr" is unknown`,
		"a: b\na: c\n":                  "2: a: is given twice",
		"- a\n":                         "1: is no table of names",
		"a: b\n\tc: d\n":                "2: is not valid YAML",
		"a: *x\n":                       "is not valid YAML",
		strings.Repeat("# long\n", 3e5): "1: is larger than 1 MiB",
	} {
		path := aliasFile(t, in)
		_, err := LoadAliases(path)
		var mistake *FileError
		if !errors.As(err, &mistake) || mistake.Hint() == "" || mistake.File != path {
			t.Errorf("%q: %v; want a FileError", clip(in), err)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want it to say %q", clip(in), err, want)
		}
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "null\n"} {
		if _, err := LoadAliases(aliasFile(t, empty)); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

func FuzzAliases(f *testing.F) {
	f.Add("a: b\nc: &x {gone: y, try: z}\nd: *x\n")
	f.Add(string(builtinAliases))
	f.Fuzz(func(t *testing.T, s string) {
		a := Aliases{entries: map[string]aliasEntry{}}
		if err := a.add("f", []byte(s)); err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of %q is not one line: %q", s, err)
			}
			return
		}
		for _, alias := range a.List() {
			n, err := ParseName(alias.Name)
			if err != nil {
				t.Fatalf("%+v: %v", alias, err)
			}
			if _, ok, err := a.Lookup(n); !ok || err != nil && !errors.As(err, new(*GoneError)) {
				t.Fatalf("%+v: %v, %v", alias, ok, err)
			}
		}
	})
}

func TestCandidates(t *testing.T) {
	src := Sources{
		Aliases: aliases(t, "db: postgres:16\n"),
		Registries: Registries{
			{Host: "registry.example.org"}, {Host: "quiet.example.org", FullNamesOnly: true}, {Host: DockerHub},
		},
	}
	for in, want := range map[string]string{
		"redis":                 "registry.example.org/redis:latest docker.io/library/redis:latest",
		"team/app:1":            "registry.example.org/team/app:1 docker.io/team/app:1",
		"localhost:5000/x":      "localhost:5000/x:latest",
		"docker.io/redis":       "docker.io/library/redis:latest",
		"cloudius/redis:7":      "docker.io/library/redis:7",
		"db":                    "registry.example.org/postgres:16 docker.io/library/postgres:16",
		"quiet.example.org/app": "quiet.example.org/app:latest",
	} {
		names, err := src.Candidates(mustName(t, in))
		var got []string
		for _, n := range names {
			got = append(got, n.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("Candidates(%s) = %v, %v; want %s", in, got, err, want)
		}
	}
	if _, err := src.Candidates(mustName(t, "cloudius/osv-base")); !errors.As(err, new(*GoneError)) {
		t.Errorf("cloudius/osv-base: %v", err)
	}
	if d := src.Registries.Default(); d != "registry.example.org" {
		t.Errorf("default registry %q", d)
	}
	if names, err := (Sources{}).Candidates(mustName(t, "redis")); len(names) > 0 || err != nil {
		t.Errorf("without registries: %v, %v", names, err)
	}
}
