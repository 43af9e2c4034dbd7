package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
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
}

// atTerminal runs a command whose standard error is a terminal, and returns
// what that was sent.
func (w *world) atTerminal(args ...string) string {
	w.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer master.Close()
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
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		var out bytes.Buffer
		io.Copy(&out, master) // until the last who has the terminal closes it
		shown <- out.String()
	}()
	cmd := w.command(args...)
	cmd.Stderr = slave
	err = cmd.Run()
	slave.Close()
	out := <-shown
	if err != nil {
		w.t.Fatalf("capstan %q: %v: %s", args, err, out)
	}
	return out
}
