//go:build linux && e2e

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// timeServer is a cloud's, on the network of one machine.
type timeServer struct {
	answer func(question []byte) []byte // nil: nobody is there
}

// serve answers the machine's questions. For an address that nobody else on the
// network has, the server must say where it is.
func (s *timeServer) serve(w *wire, at netip.AddrPort, alone bool) {
	if alone && s.answer != nil {
		w.host = at.Addr()
	}
	for {
		d, err := w.receive()
		if err != nil {
			return // the machine has ended
		}
		if d.to != at || s.answer == nil {
			continue
		}
		if a := s.answer(d.body); a != nil {
			_ = w.send(datagram{d.mac, at, d.from, a}) // the same
		}
	}
}

// boot boots a machine of a cloud from a disk with cfg. Its network is a hub
// with QEMU's user-mode network, where the metadata server is, and with s.
func (s *timeServer) boot(t *testing.T, on setup, cfg api.Config, args ...string) *machine {
	t.Helper()
	c, ok := map[string]string{"EC2": "169.254.169.123", "GCE": metadataHost}[on.cloud]
	if !ok {
		t.Fatalf("%q is no cloud", on.cloud)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(c), ntpPort)
	address := onWire(t, func(w *wire) { s.serve(w, at, c != metadataHost) })
	cfg.Args = []string{"app", "stop"}
	on.machine, on.disk = "q35", cloudDisk(t, cfg)+on.disk
	on.netdev = "hubport,hubid=0"
	on.args = slices.Concat(on.args, args, []string{
		"-netdev", (&metadataServer{hostname: "h"}).network(t) + ",restrict=on,id=user", "-netdev", "hubport,hubid=0,netdev=user,id=user0",
		"-netdev", "socket,connect=" + address + ",id=wire", "-netdev", "hubport,hubid=0,netdev=wire,id=wire0",
	})
	return boot(t, api.Config{}, on)
}

// clock is what the machine's clock says, and the state of its discipline.
func (m *machine) clock() (now time.Time, t unix.Timex) {
	m.t.Helper()
	out, _, _ := m.exec(api.ExecRequest{Args: []string{"app", "timex"}}, "")
	var micro int64
	if _, err := fmt.Sscan(out, &micro, &t.Status, &t.Offset); err != nil {
		m.t.Fatalf("%q: %v", out, err)
	}
	return time.UnixMicro(micro), t
}

// A clock that is wrong by decades is set by the cloud's, and the kernel says
// from then on that it is kept.
func TestCloudClock(t *testing.T) {
	const years = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		on    setup
		date  string // of the clock device
		ahead time.Duration
	}{
		"EC2":                {nitro, "2001-01-01", 0},
		"GCE":                {gce, "2041-01-01", 0},
		"after NTP's second": {nitro, "2001-01-01", 30 * years}, // beginning, in 2036
	} {
		t.Run(name, func(t *testing.T) {
			s := &timeServer{answer: func(q []byte) []byte { return ntpAnswer(q, time.Now().Add(c.ahead)) }}
			m := s.boot(t, c.on, api.Config{}, "-rtc", "base="+c.date)
			m.expect("ready\n")
			var off time.Duration
			m.await(func() bool {
				now, state := m.clock()
				off = time.Until(now) - c.ahead
				return off.Abs() < time.Minute && state.Status&unix.STA_UNSYNC == 0
			})
			m.shut()
			t.Logf("off by %s", off)
		})
	}
}

// A clock that is a little off is slewed, not set. The server says nothing until
// it knows the machine's clock.
func TestCloudClockSlewed(t *testing.T) {
	var ahead atomic.Pointer[time.Duration]
	s := &timeServer{answer: func(q []byte) []byte {
		if by := ahead.Load(); by != nil {
			return ntpAnswer(q, time.Now().Add(*by))
		}
		return nil
	}}
	m := s.boot(t, nitro, api.Config{})
	m.expect("ready\n")
	const little = maxSlew / 2
	m.await(func() bool {
		before := time.Now()
		now, _ := m.clock()
		took := time.Since(before)
		by := now.Sub(before.Add(took/2)) + little
		if took < little {
			ahead.Store(&by)
		}
		return took < little
	})
	var state unix.Timex
	m.await(func() bool {
		_, state = m.clock()
		return state.Status&unix.STA_UNSYNC == 0
	})
	first := state.Offset // in nanoseconds
	m.await(func() bool {
		_, state = m.clock()
		return state.Offset < first/2
	})
	m.shut()
	if first <= 0 || state.Offset <= 0 || state.Status&unix.STA_PLL == 0 || strings.Contains(m.kernelLog(), "it is set by") {
		t.Errorf("first off by %d ns, then %+v", first, state)
	}
}

// Without a time server, or with one that talks nonsense, the machine goes by
// its own clock and says so once.
func TestCloudClockTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		on     setup
		answer func([]byte) []byte // nil: nobody is at the address
		said   string
	}{
		"absent":  {nitro, nil, "timeout"},
		"silent":  {gce, func([]byte) []byte { return nil }, "timeout"},
		"garbage": {nitro, func([]byte) []byte { return []byte(strings.Repeat("x", 400)) }, "what the time server sends is no answer"},
		"lost": {gce, func(q []byte) []byte {
			a := ntpAnswer(q, time.Now().Add(time.Hour))
			a[0] |= 3 << 6
			return a
		}, "the time server does not know the time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for the most part
			m := (&timeServer{answer: c.answer}).boot(t, c.on, api.Config{})
			m.expect("ready\n")
			said := "keeping the clock by " + c.on.cloud + "'s: "
			m.await(func() bool { return strings.Contains(m.kernelLog(), said) })
			if now, state := m.clock(); time.Until(now).Abs() > time.Minute || state.Status&unix.STA_UNSYNC == 0 {
				t.Errorf("%s, %+v", now, state)
			}
			m.shut()
			if _, after, _ := strings.Cut(m.kernelLog(), said); strings.Contains(after, said) || !strings.Contains(after, c.said) {
				t.Errorf("said %q", after)
			}
		})
	}
}

// shut ends a machine whose application waits to be stopped.
func (m *machine) shut() {
	m.t.Helper()
	m.call("POST", "/v1/stop", api.StopRequest{Timeout: -1}, nil)
	if _, exit := m.end(); exit != (api.Exit{Status: 7}) {
		m.t.Errorf("ended with %+v", exit)
	}
}
