//go:build linux

package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// line is a serial port of PID 1's and its host's end.
func line(t *testing.T) (guest *port, host *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	guest, host = &port{File: os.NewFile(uintptr(fds[0]), "guest")}, os.NewFile(uintptr(fds[1]), "host")
	t.Cleanup(func() {
		guest.Close()
		host.Close()
	})
	return guest, host
}

// TestGreet: what a broken session has left on a serial port is not taken for
// the next one's, and the host is told where that begins.
func TestGreet(t *testing.T) {
	guest, host := line(t)
	for _, garbage := range []string{"", strings.Repeat("\xff", 100_000)} {
		go io.WriteString(host, garbage)
		greeted := make(chan error, 1)
		go func() { greeted <- greet(guest, garbage != "") }()
		hello := make([]byte, len(api.ControlHello))
		if _, err := io.ReadFull(host, hello); err != nil || string(hello) != api.ControlHello {
			t.Fatalf("the host is told %q, %v", hello, err)
		}
		if err := <-greeted; err != nil {
			t.Fatal(err)
		}
		s := &session{port: guest}
		go io.WriteString(host, "next")
		if err := s.await(); err != nil || string(s.first) != "next" {
			t.Errorf("the session begins with %q, %v", s.first, err)
		}
	}
}

// TestGreetGone: a port that has gone is given up.
func TestGreetGone(t *testing.T) {
	guest, host := line(t)
	host.Close()
	if err := greet(guest, true); err == nil {
		t.Error("a port without another end is greeted")
	}
}
