package serial

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"capstan/guest/api"
)

// TestControl: what comes before the hello is passed over, in whatever pieces
// it comes; nothing is sent before it, by either port, and all of it after.
func TestControl(t *testing.T) {
	const answer = "from the guest"
	for _, noise := range []string{"", "BdsDxe: loading\r\n", api.ControlHello[:5], api.ControlHello[:len(api.ControlHello)-1] + "x", strings.Repeat("\n", 100_000)} {
		for _, piece := range []int{1, 7, 1 << 20} {
			guest, line := net.Pipe()
			screen, console := net.Pipe()
			control := NewControl(line)
			for _, w := range []io.Writer{control, NewConsole(console, control)} {
				go io.WriteString(w, "typed")
			}
			// A pipe's write returns once it has been read: were anything sent
			// before the hello, nobody would read it here, and it would be lost.
			said := make(chan error, 1)
			go func() {
				for all := noise + api.ControlHello + answer; all != ""; all = all[min(piece, len(all)):] {
					if _, err := io.WriteString(guest, all[:min(piece, len(all))]); err != nil {
						said <- err
						return
					}
				}
				said <- nil
			}()
			got := make([]byte, len(answer))
			if _, err := io.ReadFull(control, got); err != nil || string(got) != answer {
				t.Fatalf("after %.20q in pieces of %d: got %q, %v", noise, piece, got, err)
			}
			if err := <-said; err != nil {
				t.Fatal(err)
			}
			for _, end := range []net.Conn{guest, screen} {
				got := make([]byte, len("typed"))
				if _, err := io.ReadFull(end, got); err != nil || string(got) != "typed" {
					t.Errorf("the guest got %q, %v", got, err)
				}
				end.Close()
			}
		}
	}
}

// TestConsole: the firmware's words are not the application's.
func TestConsole(t *testing.T) {
	screen, line := net.Pipe()
	_, unused := net.Pipe()
	control := NewControl(unused)
	defer control.Close()
	go func() {
		io.WriteString(screen, "BdsDxe: loading\r\n"+api.ConsoleHello+"output")
		screen.Close()
	}()
	if said, err := io.ReadAll(NewConsole(line, control)); string(said) != "output" || err != nil {
		t.Errorf("got %q, %v", said, err)
	}
}

// TestHeldBack: a guest that does not listen yet is sent nothing.
func TestHeldBack(t *testing.T) {
	guest, line := net.Pipe()
	control := NewControl(line)
	sent := make(chan error, 1)
	go func() {
		_, err := control.Write([]byte("early"))
		sent <- err
	}()
	if _, err := io.WriteString(guest, "noise"); err != nil {
		t.Fatal(err)
	}
	guest.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := guest.Read(make([]byte, 5)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the guest got %d bytes, %v", n, err)
	}
	control.Close()
	if err := <-sent; err == nil {
		t.Error("it was sent after the end")
	}
}

// TestControlEnds: nobody waits for a guest that will never listen.
func TestControlEnds(t *testing.T) {
	guest, line := net.Pipe()
	control := NewControl(line)
	ended := make(chan error, 1)
	go func() {
		_, err := control.Write([]byte("hello?"))
		ended <- err
	}()
	guest.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("writing to a machine that is gone: %v", err)
	}
	if _, err := control.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("reading from it: %v", err)
	}
	if err := errors.Join(control.Close(), control.Close()); err != nil {
		t.Error(err)
	}
}
