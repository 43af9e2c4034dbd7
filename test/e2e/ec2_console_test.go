//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"capstan/internal/cloud/ec2/ec2test"
)

// TestConsoleEC2: of an application that prints more than EC2 keeps of a console,
// and faster than anybody asks for it, logs shows what can be seen, once and in
// order, and where something is missing. So it is at the next start.
func TestConsoleEC2(t *testing.T) {
	const lines, written = 20000, "20000" // 217 KiB
	c, cloud := newCapstan(t), ec2test.Start(t)
	c.env = cloud.Env()
	dir := t.TempDir()
	buildProbe(t, filepath.Join(dir, "probe"), "amd64")
	file := "cmdline: /probe flood " + written + "\nfiles: {/probe: probe}\n"
	if err := os.WriteFile(filepath.Join(dir, "Capstanfile"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "floods", dir)
	c.must(t, "run", "--on", "ec2", "-d", "--name", "flood", "--stop-timeout", grace, "floods")
	for run := 1; run <= 2; run++ {
		if run == 2 {
			c.must(t, "start", "flood")
		}
		followed := start(t, c.command(t.Context(), "logs", "-f", "flood"))
		c.waitReady(t, "flood", run)
		if got := c.must(t, "logs", "--tail", "2", "flood"); strings.TrimSpace(got) != "line "+written+"\nready" {
			t.Errorf("run %d: the last lines are %q", run, got)
		}
		c.must(t, "stop", "flood")
		checkCount(t, followed().stdout, lines, run)
		if status, exit := vsphereState(t, c, "flood"); status != "exited" || exit != 0 {
			t.Errorf("run %d: %s, %d", run, status, exit)
		}
		checkCount(t, c.must(t, "logs", "flood"), lines, run)
	}
	c.must(t, "rm", "flood")
	c.checkNothingLeft(t)
}

// checkCount checks what is shown of an application's runs, each of which counts
// lines and goes on until it is asked to end.
func checkCount(t *testing.T, shown string, lines, runs int) {
	t.Helper()
	all := strings.Split(strings.TrimSuffix(shown, "\n"), "\n")
	isGap := func(at int) bool {
		return at >= 0 && at < len(all) && strings.HasPrefix(all[at], "[capstan: output is missing here: ec2 ")
	}
	last, missing, ended := 0, false, 0
	for at, line := range all {
		n, err := strconv.Atoi(strings.TrimPrefix(line, "line "))
		switch {
		case isGap(at):
			missing = true
		case isGap(at + 1): // it may have been cut off
		case isGap(at-1) && !strings.HasPrefix(line, "line ") && line != "ready": // the end of one
		case line == "ready" && last == lines:
			last, ended = 0, ended+1
		case line == "bye" && last == 0:
		case err != nil || n <= last || n > last+1 && !missing:
			t.Fatalf("after line %d comes %q", last, line)
		default:
			last, missing = n, false
		}
	}
	if ended != runs {
		t.Errorf("%d of %d runs are shown to their end", ended, runs)
	}
}
