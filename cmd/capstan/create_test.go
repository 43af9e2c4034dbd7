package main

import (
	"testing"

	"capstan/internal/repo"
)

// TestUsualMemory: what the alias table says holds for an image by whichever
// name or digest it is found here, and never makes a machine smaller.
func TestUsualMemory(t *testing.T) {
	name := func(s string) repo.Name {
		n, err := repo.ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	cassandra := &repo.Origin{Name: name("docker.io/library/cassandra:5")}
	for _, tt := range []struct {
		entry         repo.Entry
		usually, want int64
	}{
		{repo.Entry{Name: cassandra.Name}, 512 << 20, 2 << 30},
		{repo.Entry{Name: cassandra.Name, Origin: cassandra}, 512 << 20, 2 << 30},
		{repo.Entry{Name: name("mine"), Origin: cassandra}, 512 << 20, 2 << 30},
		{repo.Entry{Origin: cassandra}, 512 << 20, 2 << 30},
		{repo.Entry{Origin: cassandra}, 4 << 30, 0},
		{repo.Entry{Name: name("mine")}, 512 << 20, 0},
		{repo.Entry{Name: name("docker.io/library/redis")}, 512 << 20, 0},
	} {
		a := &app{settings: settings{Root: t.TempDir(), Memory: tt.usually}}
		if got := a.usualMemory(tt.entry); got != tt.want {
			t.Errorf("%+v beside %d: %d, want %d", tt.entry, tt.usually, got, tt.want)
		}
	}
}
