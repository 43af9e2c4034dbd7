package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"capstan/internal/repo/registrytest"
)

// TestBars pushes and pulls at a terminal.
func TestBars(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	w := newWorld(t)
	w.env = append(w.env, "CAPSTAN_OFFLINE=false")
	w.write("tree/motd", "hello")
	if r := w.capstan("build", "--from", "tree", reg.Host+"/app"); r.status != 0 {
		t.Fatal(r.stderr)
	}
	bar := regexp.MustCompile(`layer [0-9a-f]{12} +\[=+\] +[0-9.]+ KiB / +[0-9.]+ KiB`)
	if out := w.atTerminal("push", reg.Host+"/app"); !bar.MatchString(out) {
		t.Errorf("push shows no full bar: %q", out)
	}
	if r := w.capstan("rmi", reg.Host+"/app"); r.status != 0 {
		t.Fatal(r.stderr)
	}
	if out := w.atTerminal("pull", reg.Host+"/app"); !bar.MatchString(out) || !regexp.MustCompile(`flattening +\[=+\]`).MatchString(out) {
		t.Errorf("pull shows no full bars: %q", out)
	}
	if out := w.atTerminal("pull", "--quiet", reg.Host+"/app"); out != "" {
		t.Errorf("pull --quiet shows %q", out)
	}

	// What is said of the work comes after the last bars, which clear what is below.
	w.write("tree/motd", "hello again")
	w.must("build", "--from", "tree", "new")
	w.must("push", "new", reg.Host+"/app")
	if out := w.atTerminal("pull", reg.Host+"/app"); !strings.Contains(out, "has moved") || strings.LastIndex(out, wiped) > strings.Index(out, "has moved") {
		t.Errorf("bars take the place of what pull says: %q", out)
	}
	w.must("save", "-o", "app.tar", "new")
	load := w.command("load", "-i", "app.tar")
	if out := w.shown(load, &load.Stdout, &load.Stderr); !strings.Contains(out, "loaded") || strings.LastIndex(out, wiped) > strings.Index(out, "loaded") {
		t.Errorf("bars take the place of what load says: %q", out)
	}
}

// wiped clears a terminal from its cursor on.
const wiped = "\x1b[J"

// atTerminal runs a command whose standard error is a terminal, and returns
// what that was sent.
func (w *world) atTerminal(args ...string) string {
	w.t.Helper()
	cmd := w.command(args...)
	return w.shown(cmd, &cmd.Stderr)
}

// shown runs a command that has a terminal for some of its outputs, and returns
// what that was sent.
func (w *world) shown(cmd *exec.Cmd, outputs ...*io.Writer) string {
	w.t.Helper()
	master, slave := w.terminal()
	defer master.Close()
	for _, out := range outputs {
		*out = slave
	}
	shown := make(chan string)
	go func() {
		var out bytes.Buffer
		io.Copy(&out, master) // until the last who has the terminal closes it
		shown <- out.String()
	}()
	err := cmd.Run()
	slave.Close()
	out := <-shown
	if err != nil {
		w.t.Fatalf("%q: %v: %s", cmd.Args, err, out)
	}
	return out
}

// terminal is a terminal's two ends.
func (w *world) terminal() (master, slave *os.File) {
	w.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return master, slave
}

// TestWorking: at a terminal, work without a known end is shown while it lasts.
func TestWorking(t *testing.T) {
	w := newWorld(t)
	w.write("tree/motd", "hello")
	w.must("build", "--from", "tree", "app")
	pipe := filepath.Join(w.dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	master, slave := w.terminal()
	defer master.Close()
	cmd := w.command("save", "-o", "pipe", "app")
	cmd.Stderr = slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var shown []byte
	for !bytes.Contains(shown, []byte("saving pipe")) {
		buf := make([]byte, 4096)
		n, err := master.Read(buf)
		if shown = append(shown, buf[:n]...); err != nil {
			t.Fatalf("%v after %q", err, shown)
		}
	}
	archive, err := os.ReadFile(pipe) // which lets it go on
	if err := errors.Join(err, cmd.Wait()); err != nil || len(archive) == 0 {
		t.Errorf("%v; %d bytes", err, len(archive))
	}
	rest, _ := io.ReadAll(master)
	if !bytes.HasSuffix(rest, []byte(wiped)) {
		t.Errorf("something is left on the terminal: %q", rest)
	}
}
