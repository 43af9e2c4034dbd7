//go:build e2e && images

package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// containerImage is one of testdata/images, and what is to be seen of it.
type containerImage struct {
	recipe   string
	official string   // its name at Docker Hub
	alias    string   // old Capstan's name for it
	push     []string // flags of skopeo's
	flags    []string // flags of run's
	args     []string
	port     int
	client   client
	again    client // for the same data after a restart; nil where there are none
}

// TestContainerImages: container images with entrypoint scripts, users and
// volumes as Docker's official ones have them, pulled by the names that old
// Capstan had for them.
func TestContainerImages(t *testing.T) {
	need(t, "redis-cli", "redis-tools")
	need(t, "psql", "postgresql-client")
	app, err := filepath.Abs(filepath.Join(appsDir, "node"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSWORD", "open sesame")
	mongo := clientProgram(t, "mongo")
	c := newCapstan(t)
	h := newHub(t, c)
	for _, i := range []containerImage{{
		recipe: "redis", official: "library/redis", alias: "cloudius/redis",
		push: []string{"--format", "v2s2"}, // Docker's own manifests, as most registries have them
		port: 6379, client: redisClient, again: redisHas,
	}, {
		recipe: "memcached", official: "library/memcached", alias: "cloudius/memcached",
		port: 11211, client: memcachedClient,
	}, {
		recipe: "nginx", official: "library/nginx", alias: "cloudius/nginx",
		port: 80, client: httpClient("Welcome to nginx!"),
	}, {
		recipe: "node", official: "library/node", alias: "cloudius/node",
		flags: []string{"-u", "node", "-v", app + ":/home/node/app:ro", "-w", "/home/node/app"}, args: []string{"server.js"},
		port: 3000, client: httpClient(", in a VM"),
	}, {
		recipe: "postgres", official: "library/postgres", alias: "postgres",
		flags: []string{"-e", "POSTGRES_PASSWORD=open sesame", "-e", "POSTGRES_INITDB_ARGS=--no-sync"},
		port:  5432, client: psqlClient, again: psqlHas,
	}, {
		// FerretDB speaks MongoDB's protocol, and stands in for it here.
		recipe: "ferretdb", official: "library/mongo", alias: "cloudius/mongodb",
		flags: []string{"-e", "FERRETDB_HANDLER=sqlite"},
		port:  27017, client: mongoClient(mongo, "write"), again: mongoClient(mongo, "read"),
	}} {
		t.Run(i.recipe, func(t *testing.T) {
			h.push(t, i.recipe, i.official, i.push...)
			log := testImage(t, c, i)
			if strings.Contains(log, "Permission denied") || i.recipe == "redis" && strings.Contains(strings.ToUpper(log), "WARNING") {
				t.Errorf("%s complains:\n%s", i.recipe, log)
			}
		})
	}
	c.checkNothingLeft(t)
}

// testImage runs an image that is not in the store, and starts it again. It
// returns what it printed.
func testImage(t *testing.T, c *capstan, i containerImage) string {
	name := "image-" + i.recipe
	line := append([]string{"run", "-d", "--name", name, "-p", "127.0.0.1:0:" + itoa(i.port)}, i.flags...)
	began := time.Now()
	c.must(t, append(append(line, i.alias), i.args...)...)
	address := c.address(t, name, i.port)
	c.eventually(t, name, func(within time.Duration) error { return i.client(t, address, within) })
	served := time.Now()
	pulled, booting := c.times(t, name)
	t.Logf("pull %s, compose %s, boot to first answer %s", seconds(pulled.Sub(began)), seconds(booting.Sub(pulled)), seconds(served.Sub(booting)))
	c.stopped(t, name, 0)
	if i.again != nil {
		c.must(t, "start", name)
		address := c.address(t, name, i.port)
		c.eventually(t, name, func(within time.Duration) error { return i.again(t, address, within) })
		c.stopped(t, name, 0)
	}
	log := c.must(t, "logs", name)
	c.must(t, "rm", name)
	return log
}

// redisHas finds what redisClient left.
func redisHas(t *testing.T, address string, within time.Duration) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	out, err := tool(within, "", "redis-cli", "-h", host, "-p", port, "GET", "key:999")
	if err == nil && out != "value-999\n" {
		t.Fatalf("the last key is %q", out)
	}
	return err
}

// psqlHas finds what psqlClient left.
func psqlHas(t *testing.T, address string, within time.Duration) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	out, err := tool(within, "SELECT count(*), sum(masts) FROM ships", psqlCommand(host, port)...)
	if err == nil && out != "1000|1500\n" {
		t.Fatalf("psql finds %q", out)
	}
	return err
}

// mongoClient returns a client that writes or reads with the program of
// test/clients.
func mongoClient(program, what string) client {
	return func(t *testing.T, address string, within time.Duration) error {
		if _, err := tool(within, "", program, address, "ping"); err != nil {
			return err
		}
		if _, err := tool(conversation, "", program, address, what, "1000"); err != nil {
			t.Fatal(err)
		}
		return nil
	}
}
