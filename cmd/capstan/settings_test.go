package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"capstan/internal/repo"
)

// settingsOf reads a configuration file of the given text.
func settingsOf(t *testing.T, config string) (settings, error) {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CAPSTAN_ROOT", root)
	return loadSettings(nil)
}

func TestRegistrySettings(t *testing.T) {
	hub := repo.Registry{Host: "docker.io"}
	for _, c := range []struct {
		config, env string
		want        repo.Registries
	}{
		{"", "", repo.Registries{hub}},
		{"cpus: 1\n", "", repo.Registries{hub}},
		{"registries: []\n", "", repo.Registries{}},
		{"registries: [Registry.example.org, index.docker.io]\n", "", repo.Registries{{Host: "registry.example.org"}, hub}},
		{
			"registries:\n- host: localhost:5000\n  insecure: true\n- host: docker.io\n  mirrors: [m.example.org/hub/, localhost:5001]\n- {host: r.example.org, ca: /ca.pem, full_names_only: true}\n", "",
			repo.Registries{
				{Host: "localhost:5000", Insecure: true},
				{Host: "docker.io", Mirrors: []string{"m.example.org/hub", "localhost:5001"}},
				{Host: "r.example.org", CAFile: "/ca.pem", FullNamesOnly: true},
			},
		},
		{
			"registries:\n- docker.io\n- {host: r.example.org, ca: /ca.pem}\n", "r.example.org, q.example.org",
			repo.Registries{{Host: "r.example.org", CAFile: "/ca.pem"}, {Host: "q.example.org"}, {Host: "docker.io", FullNamesOnly: true}},
		},
	} {
		t.Run("", func(t *testing.T) {
			if c.env != "" {
				t.Setenv("CAPSTAN_REGISTRIES", c.env)
			}
			s, err := settingsOf(t, c.config)
			if err != nil || !reflect.DeepEqual(s.Registries, c.want) {
				t.Errorf("%q with %q: %+v, %v; want %+v", c.config, c.env, s.Registries, err, c.want)
			}
		})
	}
}

func TestRegistrySettingMistakes(t *testing.T) {
	for config, want := range map[string]string{
		"registries: docker.io\n":                                         "config.yaml:1: registries: is no list",
		"\nregistries:\n- docker.io\n- docker\n":                          `config.yaml:4: registries: "docker" is no registry`,
		"registries:\n- https://docker.io\n":                              `:2: registries: "https://docker.io" is no registry`,
		"registries:\n- docker.io\n- index.docker.io\n":                   ":3: registries: docker.io is given twice",
		"registries:\n- [a]\n":                                            ":2: registries: an entry is no registry",
		"registries:\n- {insecure: true}\n":                               ":2: registries: an entry has no host",
		"registries:\n- host: docker.io\n  mirorrs: []\n":                 `:3: registries: the key "mirorrs" is unknown`,
		"registries:\n- host: docker.io\n  mirrors: a.example.org\n":      ":3: registries mirrors: is no list",
		"registries:\n- host: docker.io\n  mirrors: [a]\n":                `:3: registries mirrors: "a" is no mirror`,
		"registries:\n- host: docker.io\n  mirrors: [\"http://a.org\"]\n": `:3: registries mirrors: "http://a.org" is no mirror`,
		"registries:\n- host: docker.io\n  insecure: perhaps\n":           `:3: registries insecure: "perhaps" is neither true nor false`,
		"registries:\n- host: docker.io\n  ca:\n":                         ":3: registries ca: is no file's name",
		"registries:\n- {host: docker.io, ca: x, insecure: true}\n":       ":2: registries: docker.io has both insecure and ca",
	} {
		_, err := settingsOf(t, config)
		var mistake *repo.FileError
		if !errors.As(err, &mistake) || mistake.Hint() == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", config, err, want)
		}
	}
	if _, err := settingsOf(t, "offline: maybe\n"); err == nil || !strings.Contains(err.Error(), `offline: "maybe"`) {
		t.Errorf("offline: maybe: %v", err)
	}
	t.Setenv("CAPSTAN_REGISTRIES", "docker.io,docker")
	if _, err := settingsOf(t, ""); err == nil || !strings.Contains(err.Error(), "CAPSTAN_REGISTRIES") {
		t.Errorf("CAPSTAN_REGISTRIES: %v", err)
	}
}
