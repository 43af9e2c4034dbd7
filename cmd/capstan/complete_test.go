package main

import (
	"testing"

	"capstan/internal/repo"
)

func TestShort(t *testing.T) {
	for _, c := range []struct{ registry, name, want string }{
		{"docker.io", "docker.io/library/redis:7", "redis:7"},
		{"docker.io", "docker.io/team/app", "team/app:latest"},
		{"r.example.org", "r.example.org/app:1", "app:1"},
		{"r.example.org", "docker.io/library/redis", ""},
		{"docker.io", "app", ""},
	} {
		a := &app{settings: settings{Registries: repo.Registries{{Host: c.registry}}}}
		n, err := repo.ParseName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.short(n); got != c.want {
			t.Errorf("with %s, %s is %q; want %q", c.registry, c.name, got, c.want)
		}
	}
}
