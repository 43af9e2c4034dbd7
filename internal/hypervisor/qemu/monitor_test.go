//go:build linux

package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

// fakeQMP answers like QEMU does. Between any two of its lines it sends flood
// events.
func fakeQMP(conn net.Conn, flood int) {
	defer conn.Close()
	out := bufio.NewWriter(conn)
	say := func(format string, args ...any) {
		for i := range flood {
			fmt.Fprintf(out, `{"timestamp":{"seconds":1,"microseconds":%d},"event":"FLOOD","data":{"n":%d}}`+"\r\n", i, i)
		}
		fmt.Fprintf(out, format+"\r\n", args...)
		out.Flush()
	}
	say(`{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":"fake"},"capabilities":["oob"]}}`)
	in := json.NewDecoder(conn)
	for {
		var command struct {
			Execute, ID string
		}
		if in.Decode(&command) != nil {
			return
		}
		answer := "{}"
		switch command.Execute {
		case "query-name":
			answer = `{"name":"capstan"}`
		case "query-version":
			answer = `{"qemu":{"micro":22,"minor":2,"major":7},"package":"fake"}`
		case "query-qmp-schema":
			answer = `["` + strings.Repeat("x", 200_000) + `"]`
		case "stop":
			say(`{"timestamp":{"seconds":1,"microseconds":2},"event":"STOP"}`)
		case "cont":
			say(`{"timestamp":{"seconds":1,"microseconds":2},"event":"RESUME"}`)
		case "quit":
			say(`{"timestamp":{"seconds":1,"microseconds":2},"event":"SHUTDOWN","data":{"guest":false,"reason":"host-qmp-quit"}}`)
			say(`{"return":{},"id":%q}`, command.ID)
			return
		case "qmp_capabilities":
		default:
			say(`{"id":%q,"error":{"class":"CommandNotFound","desc":"The command %s has not been found"}}`, command.ID, command.Execute)
			continue
		}
		say(`{"return":%s,"id":%q}`, answer, command.ID)
	}
}

// eachQMP runs a test on the fake, on the fake at its worst and on QEMU.
func eachQMP(t *testing.T, test func(t *testing.T, conn net.Conn)) {
	for name, flood := range map[string]int{"fake": 0, "flooding fake": 200} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			var server sync.WaitGroup
			server.Go(func() { fakeQMP(theirs, flood) })
			t.Cleanup(func() {
				ours.Close()
				server.Wait()
			})
			test(t, ours)
		})
	}
	t.Run("QEMU", func(t *testing.T) { test(t, bareQEMU(t)) })
}

func ignore(qmp.Event) {}

// within is a context that ends a test which hangs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestMonitor(t *testing.T) {
	eachQMP(t, func(t *testing.T, conn net.Conn) {
		last := ""
		ctx := within(t)
		c, err := newClient(ctx, conn, func(e qmp.Event) {
			if e.Event == "SHUTDOWN" {
				last, _ = e.Data["reason"].(string)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		mon := raw.NewMonitor(monitor{c, ctx})
		if v, err := mon.QueryVersion(); err != nil || v.Qemu.Major < oldest || int(v.Qemu.Major) != c.version.QEMU.Major {
			t.Errorf("version %+v, %v; greeted with %v", v, err, c.version)
		}
		if out, err := (monitor{c, ctx}).Run([]byte(`{"execute":"query-qmp-schema"}`)); err != nil || len(out) < 100_000 {
			t.Errorf("a long answer: %d bytes, %v", len(out), err)
		}
		var refused *commandError
		if _, err := c.run(ctx, []byte(`{"execute":"no-such"}`)); !errors.As(err, &refused) || refused.class != "CommandNotFound" {
			t.Errorf("a wrong command: %v", err)
		}
		if _, err := c.run(ctx, []byte(`no JSON`)); err == nil {
			t.Error("no JSON was sent as a command")
		}
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				for range 50 {
					if err := errors.Join(mon.Stop(), mon.Cont()); err != nil {
						t.Error(err)
						return
					}
					if name, err := mon.QueryName(); err != nil || name.Name == nil || *name.Name != "capstan" {
						t.Errorf("name %+v, %v", name, err)
						return
					}
				}
			})
		}
		callers.Wait()
		if err := mon.Quit(); err != nil {
			t.Error(err)
		}
		<-c.done
		if last != "host-qmp-quit" {
			t.Errorf("the last event's reason is %q", last)
		}
		if _, err := c.run(ctx, []byte(`{"execute":"query-name"}`)); !errors.Is(err, errMonitorClosed) {
			t.Errorf("a command after the end: %v", err)
		}
		if _, err := (monitor{c, ctx}).Events(ctx); !errors.Is(err, errMonitorClosed) {
			t.Errorf("subscribing after the end: %v", err)
		}
		c.Disconnect()
	})
}

func TestMonitorSubscriptions(t *testing.T) {
	eachQMP(t, func(t *testing.T, conn net.Conn) {
		ctx := within(t)
		c, err := newClient(ctx, conn, ignore)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Disconnect()
		m := monitor{c, ctx}
		listening, deafen := context.WithCancel(ctx)
		events, err := m.Events(listening)
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.NewMonitor(m).Cont(); err != nil {
			t.Fatal(err)
		}
		if e := <-events; (e.Event != "RESUME" && e.Event != "FLOOD") || e.Timestamp.Seconds == 0 {
			t.Errorf("got %+v", e)
		}
		deafen()
		for range events { // ends, because the channel is closed
		}
		if _, err := raw.NewMonitor(m).QueryName(); err != nil {
			t.Errorf("a command after a subscription: %v", err)
		}
	})
}

// A QEMU that says nothing or nonsense costs an error, in bounded time.
func TestMonitorOfMutes(t *testing.T) {
	const greeting = `{"QMP":{"version":{"qemu":{"micro":0,"minor":0,"major":9}},"capabilities":[]}}` + "\n"
	for name, says := range map[string]string{
		"silence":         "",
		"mute later":      greeting,
		"no JSON":         "hello\n",
		"neither":         "{}\n",
		"half a greeting": greeting[:20],
		"long":            `{"QMP":"` + strings.Repeat("x", maxMessage) + `"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			var server sync.WaitGroup
			server.Go(func() {
				io.WriteString(theirs, says)
				io.Copy(io.Discard, theirs)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if name == "long" {
				ctx = within(t)
			}
			c, err := newClient(ctx, ours, ignore)
			if err == nil || c != nil {
				t.Errorf("got %v, %v", c, err)
			}
			theirs.Close()
			server.Wait()
		})
	}
}

// A command that cannot be written ends with its context.
func TestMonitorStuck(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	var server sync.WaitGroup
	server.Go(func() {
		io.WriteString(theirs, `{"QMP":{"version":{"qemu":{"micro":0,"minor":0,"major":9}}}}`+"\n")
		bufio.NewReader(theirs).ReadSlice('\n')
		io.WriteString(theirs, `{"return":{},"id":"1"}`+"\n")
	})
	c, err := newClient(within(t), ours, ignore)
	if err != nil {
		t.Fatal(err)
	}
	server.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := raw.NewMonitor(monitor{c, ctx}).Quit(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	c.Disconnect()
}

func FuzzMonitor(f *testing.F) {
	f.Add([]byte("{\"QMP\":{\"version\":{}}}\r\n{\"return\":{},\"id\":\"1\"}\n{\"event\":\"STOP\"}\n"))
	f.Add([]byte("{\"QMP\":null}\n"))
	f.Add([]byte("{\"QMP\":{}}\n{\"error\":{},\"id\":\"1\"}\n"))
	f.Fuzz(func(t *testing.T, says []byte) {
		ours, theirs := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() {
			theirs.Write(says)
			theirs.Close()
		})
		if c, err := newClient(t.Context(), ours, ignore); err == nil {
			c.Disconnect()
		}
		server.Wait()
	})
}
