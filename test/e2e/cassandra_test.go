//go:build e2e && images

package e2e

import (
	"bufio"
	"context"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Cassandra starts in a quarter of a minute elsewhere, and needs five minutes of
// processor time for it under TCG.
const cassandraBound = 12 * time.Minute

// rows are written by the CQL client and read back.
const rows = "10000"

// TestCassandra: the name that the project is known by boots a real Apache
// Cassandra from nothing, which keeps its data. Under TCG that takes minutes.
func TestCassandra(t *testing.T) {
	cql := clientProgram(t, "cql")
	c := newCapstan(t)
	newHub(t, c).push(t, "cassandra", "library/cassandra")
	began := time.Now()
	// Less compiling than a server wants, which starts faster; no waiting for
	// other nodes. The memory is the alias table's. The port is where users may
	// put it, too.
	c.must(t, "run", "-d", "--name", "cassandra", "-c", "2",
		"-e", "JVM_EXTRA_OPTS=-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dcassandra.skip_wait_for_gossip_to_settle=0",
		"cloudius/cassandra", "-p", "127.0.0.1:0:9042")
	pulled, started := c.times(t, "cassandra")
	t.Logf("pull %s, compose %s", seconds(pulled.Sub(began)), seconds(started.Sub(pulled)))

	c.serves(t, cql, started, 1)
	c.cql(t, cql, "write", rows)
	c.cql(t, cql, "read", rows)
	c.drains(t)

	began = time.Now()
	c.must(t, "start", "cassandra")
	c.serves(t, cql, began, 2)
	c.cql(t, cql, "read", rows)
	c.drains(t)

	log := c.must(t, "logs", "cassandra")
	for line := range strings.Lines(log) {
		about := strings.Contains(line, "StartupChecks.java") || strings.Contains(line, "NativeLibrary.java")
		if about && !strings.HasPrefix(line, "INFO") && !strings.Contains(line, "JMX is not enabled") {
			t.Errorf("Cassandra complains of its machine: %s", line)
		}
	}
	c.must(t, "rm", "cassandra")
}

// cql runs a command of the CQL client, which has to succeed.
func (c *capstan) cql(t *testing.T, program string, args ...string) {
	t.Helper()
	began := time.Now()
	out, err := tool(cassandraBound, "", append([]string{program, c.address(t, "cassandra", 9042)}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("cql %s: %s %s", strings.Join(args, " "), seconds(time.Since(began)), out)
}

// serves waits until Cassandra says for the nth time that it has started, which
// began when its machine did, and asks it something.
func (c *capstan) serves(t *testing.T, cql string, began time.Time, nth int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cassandraBound)
	defer cancel()
	follow := c.command(ctx, "logs", "-f", "cassandra")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); follow.Wait() }()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for n, said := 0, 0; lines.Scan(); n++ {
		if n == 0 && nth == 1 {
			t.Logf("boot to first line of output %s", seconds(time.Since(began)))
		}
		if strings.Contains(lines.Text(), "Startup complete") {
			said++
		}
		if said == nth {
			t.Logf("Cassandra had started after %s", seconds(time.Since(began)))
			c.cql(t, cql, "ping")
			return
		}
	}
	s, _ := c.ps(t, "cassandra", "-a")
	t.Fatalf("Cassandra does not start within %s: %+v", cassandraBound, s)
}

// drained is what Cassandra says last when it was asked to end. The JVM then
// ends as SIGTERM ends a program, in a container as here.
var drained = regexp.MustCompile(`Cassandra shutdown complete\s*$`)

// drains stops Cassandra, which writes all that it has in memory to its tables
// first.
func (c *capstan) drains(t *testing.T) {
	t.Helper()
	began := time.Now()
	c.stopped(t, "cassandra", 143)
	if log := c.must(t, "logs", "cassandra"); !drained.MatchString(log) {
		t.Errorf("Cassandra did not shut down in order:\n%s", tail(log))
	}
	t.Logf("stop %s", seconds(time.Since(began)))
}
