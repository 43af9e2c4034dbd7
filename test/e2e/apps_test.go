//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const appsDir = "../../testdata/apps"

// application is one of testdata/apps, and what is to be seen of it.
type application struct {
	name   string
	port   int
	client client
	status int // after SIGTERM
}

func TestRedis(t *testing.T) {
	need(t, "redis-cli", "redis-tools")
	log := testApp(t, application{"redis", 6379, redisClient, 0})
	if strings.Contains(log, "WARNING") || strings.Contains(log, "Warning") {
		t.Errorf("redis has something to warn of:\n%s", log)
	}
}

func TestMemcached(t *testing.T) {
	testApp(t, application{"memcached", 11211, memcachedClient, 0})
}

func TestNginx(t *testing.T) {
	testApp(t, application{"nginx", 80, httpClient("nginx of Debian, in a VM"), 0})
}

func TestPostgreSQL(t *testing.T) {
	need(t, "psql", "postgresql-client")
	testApp(t, application{"postgresql", 5432, psqlClient, 0})
}

func TestJava(t *testing.T) {
	need(t, "javac", "openjdk-17-jdk-headless")
	testApp(t, application{"java", 8080, httpClient("Java 17, in a VM"), 143})
}

func TestPython(t *testing.T) {
	testApp(t, application{"python", 8000, httpClient("python3 -m http.server, in a VM"), 143})
}

func TestNode(t *testing.T) {
	testApp(t, application{"node", 3000, httpClient(", in a VM"), 0})
}

func TestGo(t *testing.T) {
	testApp(t, application{"go", 8080, httpClient("Go, in a VM"), 0})
}

// testApp builds, runs, uses, stops and removes an application, and returns
// what it printed.
func testApp(t *testing.T, app application) string {
	c := newCapstan(t)
	dir := appContext(t, app.name)
	began := time.Now()
	c.must(t, "build", app.name, dir)
	built := time.Now()
	name := c.must(t, "run", "-d", "--name", "e2e-"+app.name, "-p", "127.0.0.1:0:"+itoa(app.port), app.name)
	if name = strings.TrimSpace(name); name != "e2e-"+app.name {
		t.Errorf("run -d printed %q", name)
	}
	started := time.Now()
	address := c.address(t, name, app.port)
	c.eventually(t, name, func(within time.Duration) error { return app.client(t, address, within) })
	served := time.Now()

	c.stopped(t, name, app.status)
	stopped := time.Now()
	if _, ok := c.ps(t, name); ok {
		t.Errorf("ps without -a shows the stopped %s", name)
	}
	log := c.must(t, "logs", name)
	if t.Failed() {
		t.Logf("its log:\n%s", tail(log))
	}
	c.must(t, "rm", name)
	c.checkNothingLeft(t)
	t.Logf("build %.2f s, run -d %.2f s, until served %.2f s, stop %.2f s", built.Sub(began).Seconds(),
		started.Sub(built).Seconds(), served.Sub(started).Seconds(), stopped.Sub(served).Seconds())
	return log
}

// appContext makes the directory that an application is built in.
func appContext(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	from := filepath.Join(appsDir, name)
	err := os.CopyFS(dir, os.DirFS(from))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "ROOTFS")); err != nil { // of somebody's trials
		t.Fatal(err)
	}
	packages, err := os.ReadFile(filepath.Join(from, "packages"))
	if os.IsNotExist(err) {
		return dir
	}
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{filepath.Join(dir, "ROOTFS")}, strings.Fields(string(packages))...)
	if out, err := exec.Command(filepath.Join(appsDir, "root.sh"), args...).CombinedOutput(); err != nil {
		t.Fatalf("making the root of %s: %v\n%s", name, err, out)
	}
	return dir
}
