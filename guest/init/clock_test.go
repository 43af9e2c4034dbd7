//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ntpAnswer is what a time server answers, by a clock that says now: what RFC
// 5905, section 7.3 describes, of a server of stratum 1.
func ntpAnswer(question []byte, now time.Time) []byte {
	a := make([]byte, ntpSize)
	a[0], a[1], a[2], a[3] = question[0]&0x38|ntpServer, 1, question[2], 0xec
	binary.BigEndian.PutUint32(a[8:], 7) // root dispersion, about 0.1 ms
	copy(a[12:], "GPS")
	copy(a[24:], question[40:48])
	putTime(a[16:], now.Add(-time.Second))
	putTime(a[32:], now)
	putTime(a[40:], now)
	return a
}

func putTime(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+2_208_988_800))
	binary.BigEndian.PutUint32(b[4:], uint32(t.Nanosecond()<<32/1e9))
}

// serveTime answers with all that answer returns, and returns where.
func serveTime(t *testing.T, answer func(question []byte) [][]byte) *net.UDPAddr {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			b := make([]byte, 512)
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			for _, a := range answer(b[:n]) {
				_, _ = conn.WriteTo(a, from) // who asked may have gone
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-served
	})
	return conn.LocalAddr().(*net.UDPAddr)
}

// An answer is taken for what it says if it is one, and if what it says can be.
func TestAskTime(t *testing.T) {
	one := func(change func(a []byte)) func([]byte) [][]byte {
		return func(q []byte) [][]byte {
			a := ntpAnswer(q, time.Now())
			change(a)
			return [][]byte{a}
		}
	}
	shifted := func(by time.Duration) func([]byte) [][]byte {
		return func(q []byte) [][]byte { return [][]byte{ntpAnswer(q, time.Now().Add(by))} }
	}
	none := func([]byte) [][]byte { return nil }
	for name, c := range map[string]struct {
		answer func([]byte) [][]byte
		offset time.Duration
		err    string // "" for none
	}{
		"right":               {answer: shifted(0)},
		"ahead":               {answer: shifted(time.Hour), offset: time.Hour},
		"behind":              {answer: shifted(-25 * 365 * 24 * time.Hour), offset: -25 * 365 * 24 * time.Hour},
		"after the roll-over": {answer: shifted(50 * 365 * 24 * time.Hour), offset: 50 * 365 * 24 * time.Hour},
		"with more behind": {answer: func(q []byte) [][]byte {
			return [][]byte{append(ntpAnswer(q, time.Now()), make([]byte, 20)...)} // a message digest
		}},
		"after others": {answer: func(q []byte) [][]byte {
			forged := ntpAnswer(q, time.Now().Add(time.Hour))
			forged[31]++
			return [][]byte{{}, []byte("garbage"), forged, ntpAnswer(q, time.Now())}
		}},
		"another version":    {answer: one(func(a []byte) { a[0] = 3<<3 | ntpServer })},
		"silent":             {answer: none, err: "timeout"},
		"empty":              {answer: func([]byte) [][]byte { return [][]byte{{}} }, err: "too short"},
		"short":              {answer: func(q []byte) [][]byte { return [][]byte{ntpAnswer(q, time.Now())[:47]} }, err: "too short"},
		"an echo":            {answer: func(q []byte) [][]byte { return [][]byte{q} }, err: "no answer"},
		"to another":         {answer: one(func(a []byte) { a[24]++ }), err: "no answer"},
		"a broadcast":        {answer: one(func(a []byte) { a[0]++ }), err: "no answer"},
		"a refusal":          {answer: one(func(a []byte) { a[1] = 0; copy(a[12:], "RATE") }), err: `refuses: "RATE"`},
		"not synchronised":   {answer: one(func(a []byte) { a[0] |= 3 << 6 }), err: "does not know the time"},
		"stratum 16":         {answer: one(func(a []byte) { a[1] = 16 }), err: "does not know the time"},
		"a leap second":      {answer: one(func(a []byte) { a[0] |= 1 << 6 })},
		"no time of arrival": {answer: one(func(a []byte) { clear(a[32:40]) }), err: "cannot be"},
		"no time":            {answer: one(func(a []byte) { clear(a[40:48]) }), err: "cannot be"},
		"left before":        {answer: one(func(a []byte) { putTime(a[40:], time.Now().Add(-time.Hour)) }), err: "cannot be"},
		"held too long":      {answer: one(func(a []byte) { putTime(a[40:], time.Now().Add(time.Hour)) }), err: "cannot be"},
		"far from a clock":   {answer: one(func(a []byte) { a[5] = 4 }), err: "may be wrong by 2."},
		"a bad clock":        {answer: one(func(a []byte) { a[8] = 0xff }), err: "may be wrong by 18h"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some wait for what does not come
			began := time.Now()
			r, err := askTime(serveTime(t, c.answer).AddrPort())
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%v, not %q", err, c.err)
			}
			// The true time is within what the answer took.
			if err == nil && ((r.offset-c.offset).Abs() > time.Since(began) || r.distance <= 0) {
				t.Errorf("%+v, not %s", r, c.offset)
			}
		})
	}
}

// Where nobody is, the kernel of the neighbour says so, and nothing is waited for.
func TestAskNobody(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	if _, err := askTime(at); !errors.Is(err, unix.ECONNREFUSED) {
		t.Error(err)
	}
}

// The seconds begin anew on 7 February 2036 at 06:28:16 UTC.
func TestNTPTime(t *testing.T) {
	for stamp, want := range map[uint64]time.Time{
		0:                   {},
		1:                   time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC),
		1<<32 | 1<<31:       time.Date(2036, 2, 7, 6, 28, 17, 500_000_000, time.UTC),
		0xffffffff << 32:    time.Date(2036, 2, 7, 6, 28, 15, 0, time.UTC),
		1<<64 - 1:           time.Date(2036, 2, 7, 6, 28, 15, 999_999_999, time.UTC),
		2_208_988_800 << 32: time.Unix(0, 0),
		0x7fffffff << 32:    time.Date(2104, 2, 26, 9, 42, 23, 0, time.UTC),
	} {
		if got := ntpTime(binary.BigEndian.AppendUint64(nil, stamp)); !got.Equal(want) {
			t.Errorf("%#x: %s, not %s", stamp, got.UTC(), want)
		}
	}
}

func FuzzReadTime(f *testing.F) {
	sent := time.Unix(1_800_000_000, 0)
	question := make([]byte, ntpSize)
	f.Add(ntpAnswer(question, sent))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readTime(b, 0, sent, clockTry)
		if err == nil && (r.distance < 0 || r.distance > maxDistance) {
			t.Errorf("%+v", r)
		}
	})
}

// step is a question's outcome and what shall come of it.
type step struct {
	offset time.Duration
	err    error
	set    bool          // the clock is set, not slewed
	slew   time.Duration // by the kernel, from now on
	hold   bool          // without learning from it
	wait   time.Duration
}

// The clock is set where it is far off at first or very far later, and slewed
// otherwise; the better it goes, the less is asked, and a server that is not
// there is asked ever less.
func TestTimekeeper(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	lost := errors.New("no answer")
	for name, steps := range map[string][]step{
		"far off at first":  {{offset: 25 * 365 * 24 * 3600 * s, set: true, wait: 64 * s}, {offset: ms / 2, slew: ms / 2, wait: 128 * s}},
		"ahead at first":    {{offset: -700 * ms, set: true, wait: 64 * s}},
		"a little at first": {{offset: -400 * ms, slew: -400 * ms, hold: true, wait: 64 * s}, {offset: -600 * ms, slew: -500 * ms, hold: true, wait: 64 * s}},
		"right": {
			{wait: 128 * s}, {wait: 256 * s}, {wait: 512 * s}, {wait: 1024 * s}, {wait: 1024 * s},
			{offset: 5 * ms, slew: 5 * ms, wait: 512 * s}, {offset: 5 * ms, slew: 5 * ms, wait: 256 * s},
			{offset: 9 * s, slew: maxSlew, hold: true, wait: 64 * s}, {offset: 5 * ms, slew: 5 * ms, wait: 64 * s},
			{offset: 11 * s, set: true, wait: 64 * s}, {offset: -11 * s, set: true, wait: 64 * s},
		},
		"late": {{err: lost, wait: 2 * s}, {err: lost, wait: 4 * s}, {offset: 3 * s, set: true, wait: 64 * s}},
		"lost": {
			{wait: 128 * s}, {err: lost, wait: 2 * s}, {err: lost, wait: 4 * s}, {err: lost, wait: 8 * s}, {err: lost, wait: 16 * s}, {err: lost, wait: 32 * s}, {err: lost, wait: 64 * s},
			{err: lost, wait: 128 * s}, {err: lost, wait: 256 * s}, {err: lost, wait: 512 * s}, {err: lost, wait: 1024 * s}, {err: lost, wait: 1024 * s},
			{offset: 2 * ms, slew: 2 * ms, wait: 64 * s}, {err: lost, wait: 2 * s}, {wait: 128 * s},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			out, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			k := newTimekeeper(&log{out: out}, "EC2")
			for i, c := range steps {
				var did *unix.Timex
				k.ask = func() (reading, error) { return reading{c.offset, 30 * ms}, c.err }
				k.adjust = func(t unix.Timex) error { did = &t; return nil }
				if wait := k.once(); wait != c.wait {
					t.Errorf("%d: waits %s, not %s", i, wait, c.wait)
				}
				if c.err != nil {
					if did != nil {
						t.Errorf("%d: %+v", i, did)
					}
					continue
				}
				set := did.Modes&unix.ADJ_SETOFFSET != 0
				by := time.Duration(did.Time.Sec)*s + time.Duration(did.Time.Usec)
				if set != c.set || set && (by != c.offset || did.Time.Usec < 0) || !set && (did.Modes&unix.ADJ_OFFSET == 0 || time.Duration(did.Offset) != c.slew) {
					t.Errorf("%d: %+v", i, did)
				}
				if held := did.Status&unix.STA_FREQHOLD != 0; held != c.hold || did.Status&unix.STA_PLL == 0 || did.Status&unix.STA_UNSYNC != 0 || did.Maxerror != 30_000 {
					t.Errorf("%d: %+v", i, did)
				}
				if 16<<did.Constant != int(c.wait/s) {
					t.Errorf("%d: time constant %d", i, did.Constant)
				}
			}
			said, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{
				"lost":  "capstan: keeping the clock by EC2's: no answer; it goes on without\r\ncapstan: the clock is kept by EC2's from now on\r\n",
				"right": "capstan: the clock is off by 11s: it is set by EC2's\r\ncapstan: the clock is off by -11s: it is set by EC2's\r\n",
			}[name]
			if string(said) != want {
				t.Errorf("said %q", said)
			}
		})
	}
}

// A clock that cannot be set is as one that nobody knows.
func TestTimekeeperWithoutRight(t *testing.T) {
	k := newTimekeeper(&log{}, "EC2")
	k.ask = func() (reading, error) { return reading{offset: time.Hour}, nil }
	k.adjust = func(unix.Timex) error { return unix.EPERM }
	if wait := k.once(); wait != clockRetry || k.right || k.missed != 1 {
		t.Errorf("%s, %+v", wait, k)
	}
}
