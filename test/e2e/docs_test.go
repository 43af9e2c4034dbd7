//go:build e2e

package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"capstan/internal/image/disk/disktest"
)

// TestExamples runs what the commands' help shows as examples, each in a store
// with the images and beside the files that it names.
func TestExamples(t *testing.T) {
	c := newProbe(t)
	dir := filepath.Join(t.TempDir(), "app")
	exampleFiles(t, c, dir)
	ran := 0
	for _, command := range helpCommands(c.must(t, "--help")) {
		for _, line := range examplesOf(c.must(t, command, "--help")) {
			t.Run(line, func(t *testing.T) {
				switch {
				case command == "pull" || command == "push" || command == "search" || command == "login" || command == "logout",
					strings.Contains(line, "registry.example.org"):
					return // of a registry: its own tests have one
				case strings.Contains(line, "ec2"), strings.Contains(line, "gce"):
					return // so have clouds
				case command == "scale" || command == "volume":
					return // groups and volumes are on clouds
				case strings.Contains(line, "ssh ") || strings.Contains(line, "docker "):
					return // cmd/capstan's test parses it
				}
				ran++
				c.example(t, dir, command, line)
			})
		}
	}
	if ran < 30 {
		t.Errorf("%d examples ran", ran)
	}
}

// exampleFiles makes what the examples name.
func exampleFiles(t *testing.T, c *capstan, dir string) {
	t.Helper()
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "server"), "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the probe: %v\n%s", err, out)
	}
	for name, text := range map[string]string{
		"Capstanfile": "cmdline: /server\nfiles: {/server: server}\nmemory: 64M\n", "shop/Capstanfile": "base: probe\n", "site/index.html": "hello\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, format := range map[string]string{"legacy.qcow2": "qcow2", "disk.vmdk": "vmdk", "desktop.vdi": "vdi"} {
		if err := os.Rename(writeDisk(t, disktest.BIOS("/legacy.so", false), "-O", format), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	osvFiles(t, c, dir)
	if out, err := exec.Command("tar", "-C", filepath.Join(dir, "site"), "-cf", filepath.Join(dir, "rootfs.tar"), ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}

// helpCommands are the commands that capstan --help lists, and "help".
func helpCommands(help string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) {2,}\S`).FindAllStringSubmatch(help, -1) {
		names = append(names, m[1])
	}
	return names
}

// examplesOf are the lines of the section Examples.
func examplesOf(help string) []string {
	_, rest, _ := strings.Cut(help, "Examples:\n")
	section, _, _ := strings.Cut(rest, "\n\n")
	var lines []string
	for line := range strings.Lines(section) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

var hostPort = regexp.MustCompile(`-p \d+:`)

// example runs one example, with the instances that it names as its command
// wants them.
func (c *capstan) example(t *testing.T, dir, command, line string) {
	t.Helper()
	if r := c.runIn(t, dir, "build", "app", "."); r.status != 0 {
		t.Fatal(r.stderr)
	}
	for _, name := range []string{"probe", "redis", "redis:7", "nginx", "shop:1.2", "shop:1.3"} {
		c.must(t, "tag", "app", name)
	}
	if command == "load" {
		c.runIn(t, dir, "save", "-o", "redis.tar", "redis:7")
	}
	if command == "info" {
		c.runIn(t, dir, "export", "--force", "-o", "redis.vmdk", "redis")
	}
	for _, name := range strings.Fields(line) {
		if !slices.Contains([]string{"cache", "web", "db", "job"}, name) {
			continue
		}
		switch command {
		case "stop", "kill", "restart", "stats", "inspect":
			c.must(t, "run", "-d", "--name", name, probe, "/server", "stay")
		case "run":
		default:
			c.must(t, "run", "--name", name, probe)
		}
	}
	sh := exec.CommandContext(t.Context(), "sh", "-ec", hostPort.ReplaceAllString(line, "-p 0:"))
	sh.Dir, sh.Env = dir, c.shellEnv()
	if r := finish(t, sh); r.status != 0 {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	for _, name := range strings.Fields(c.must(t, "ps", "-aq")) {
		c.must(t, "rm", "-f", name)
	}
	c.checkNothingLeft(t)
}

// shellEnv is the environment in which "capstan" is the binary under test.
func (c *capstan) shellEnv() []string {
	return append(c.command(context.Background()).Env, "PATH="+filepath.Dir(c.bin)+":"+os.Getenv("PATH"), "LC_ALL=C")
}

// session is a command of a document's, and what it prints there.
type session struct{ command, output string }

// sessions are the indented blocks of a document that begin with "$ ".
func sessions(text string) []session {
	var all []session
	in := false
	for line := range strings.Lines(text) {
		code, indented := strings.CutPrefix(line, "    ")
		switch command, prompt := strings.CutPrefix(code, "$ "); {
		case indented && prompt:
			all, in = append(all, session{command: strings.TrimSpace(command)}), true
		case indented && in:
			all[len(all)-1].output += code
		default:
			in = false
		}
	}
	return all
}

// TestDocuments runs what README.md and the pages in docs show as typed, and
// compares what is printed. Real programs are used: the tour's is redis-server.
func TestDocuments(t *testing.T) {
	need(t, "redis-server", "redis-server")
	need(t, "redis-cli", "redis-tools")
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		shown := sessions(string(text))
		total += len(shown)
		if len(shown) == 0 {
			continue
		}
		t.Run(filepath.Base(page), func(t *testing.T) {
			c := newCapstan(t)
			port, dir := freePort(t), t.TempDir()
			for _, s := range shown {
				if strings.HasPrefix(s.command, "redis-cli") {
					// A person types slower than Redis starts.
					c.eventually(t, "cache", func(time.Duration) error {
						if !strings.Contains(c.must(t, "logs", "cache"), "Ready to accept connections") {
							return errNotReady
						}
						return nil
					})
				}
				// The page's own port may be taken on this host.
				line := strings.NewReplacer("-p 6379:", "-p "+port+":", "redis-cli ", "redis-cli -p "+port+" ").Replace(s.command)
				sh := exec.CommandContext(t.Context(), "bash", "-c", "exec 2>&1; "+line)
				sh.Dir, sh.Env = dir, c.shellEnv()
				r := finish(t, sh)
				got, want := typical(strings.ReplaceAll(r.stdout, ":"+port, ":6379")), typical(s.output)
				if r.status != 0 || got != want {
					t.Errorf("$ %s\nstatus %d, printed\n%s\nand the page has\n%s", s.command, r.status, got, want)
				}
			}
			for _, name := range strings.Fields(c.must(t, "ps", "-aq")) {
				c.must(t, "rm", name)
			}
		})
	}
	if total < 5 {
		t.Errorf("%d commands are shown in all pages", total)
	}
}

// freePort is a TCP port that nobody uses now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// typical is what a command printed, without what differs from run to run and
// from host to host.
func typical(s string) string {
	for _, r := range []struct{ form, text string }{
		{`(?m)^capstan: running without acceleration: .+\n`, ""},
		{`(?m)^capstan: (flattening|writing): .+\n`, ""}, // bars, on a terminal
		{`(?m)^capstan: port .+\n`, ""},                  // on a terminal alone
		{`\b(\d+|less than a) (second|minute)s?\b`, "TIME"},
		{`\b\d+(\.\d+)?[KMG]\b`, "SIZE"},
		{`\b[0-9a-f]{64}\b`, "DIGEST"},
		{`(?m) {2,}`, "  "},
		{`(?m) +$`, ""},
	} {
		s = regexp.MustCompile(r.form).ReplaceAllString(s, r.text)
	}
	return s
}
