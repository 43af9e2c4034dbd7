//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ntpPort = 123
	// clockTry bounds one question, clockRetry is the pause after the first that
	// has no answer; it doubles with each, up to clockSeldom.
	clockTry   = 2 * time.Second
	clockRetry = 2 * time.Second
	// clockPatience is how many questions in a row may be without an answer
	// before somebody is told.
	clockPatience = 3
	// clockOften is between questions while the clock is not yet right, and
	// clockSeldom is the most that this grows to: NTP's own limits, 2^6 s and
	// 2^10 s (RFC 5905, section 7.2).
	clockOften, clockSeldom = 64 * time.Second, 1024 * time.Second
	// wellKept is how far off a clock may be that needs fewer questions.
	wellKept = time.Millisecond
	// maxDistance is how wrong an answer may be by its own account, and by the
	// time that it took: ntpd's limit.
	maxDistance = 1500 * time.Millisecond

	// A clock that is wrong is slewed, by the kernel's own discipline, which
	// learns its frequency as well: the time never jumps and never goes back.
	// The kernel slews up to maxSlew at once. Where the clock is off by more
	// than that at first, it is set, as systemd-timesyncd and, within its first
	// answers, chrony do; the application has hardly begun. Later it takes more,
	// for then it may be what a live migration has stood still for, and an
	// application that has measured time by the clock is hurt by a jump more
	// than by some minutes of drift; but a machine that was suspended is set
	// right at once.
	maxSlew   = 500 * time.Millisecond
	stepLater = 10 * time.Second
	// maxDrift is more than a clock's frequency puts it off by between two
	// questions: what is beyond teaches nothing about the frequency.
	maxDrift = 128 * time.Millisecond
)

// timekeeper keeps the clock by a cloud's.
type timekeeper struct {
	log    *log
	cloud  string
	ask    func() (reading, error)
	adjust func(unix.Timex) error
	right  bool          // has been right, since the boot
	missed int           // questions in a row without an answer
	poll   time.Duration // between questions
	retry  time.Duration // after the next that has no answer
}

// reading is what an answer says: what the clock lacks, and how wrong that is
// at most.
type reading struct{ offset, distance time.Duration }

// keepClock keeps the clock by c's for as long as the machine runs.
func (g *guest) keepClock(c cloud) {
	server := netip.AddrPortFrom(netip.MustParseAddr(c.clock), ntpPort)
	k := newTimekeeper(g.log, c.name)
	k.ask = func() (reading, error) { return askTime(server) }
	k.adjust = func(t unix.Timex) error {
		if _, err := unix.Adjtimex(&t); err != nil {
			return fmt.Errorf("setting the clock: %w", err)
		}
		return nil
	}
	for {
		time.Sleep(k.once())
	}
}

func newTimekeeper(l *log, cloud string) *timekeeper {
	return &timekeeper{log: l, cloud: cloud, poll: clockOften, retry: clockRetry}
}

// once asks for the time, corrects the clock and returns when to do so again.
func (k *timekeeper) once() time.Duration {
	r, err := k.ask()
	if err == nil {
		err = k.correct(r)
	}
	if err != nil {
		if k.missed++; k.missed == clockPatience {
			k.log.warnf("keeping the clock by %s's: %v; it goes on without", k.cloud, err)
		}
		wait := k.retry
		k.retry = min(2*k.retry, clockSeldom)
		return wait
	}
	if k.missed >= clockPatience {
		k.log.warnf("the clock is kept by %s's from now on", k.cloud)
	}
	k.missed, k.retry = 0, clockRetry
	return k.poll
}

// correct sets or slews the clock, and sets how long to wait then.
func (k *timekeeper) correct(r reading) error {
	off := r.offset.Abs()
	switch {
	case off < wellKept:
		k.poll = min(2*k.poll, clockSeldom)
	case off < maxDrift:
		k.poll = max(k.poll/2, clockOften)
	default:
		k.poll = clockOften
	}
	// Of the time constant of the kernel's discipline NTP has it that it is the
	// logarithm of the time between questions, the kernel in units of 16 s.
	seconds := uint64(k.poll / time.Second)
	t := unix.Timex{
		Modes:    unix.ADJ_STATUS | unix.ADJ_NANO | unix.ADJ_TIMECONST | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR,
		Status:   unix.STA_PLL, // and no STA_UNSYNC: applications can see that the clock is kept
		Constant: int64(bits.Len64(seconds) - 1 - 4),
		Maxerror: r.distance.Microseconds(), Esterror: r.distance.Microseconds(),
	}
	if off > stepLater || !k.right && off > maxSlew {
		t.Modes |= unix.ADJ_SETOFFSET
		whole := r.offset.Truncate(time.Second)
		if whole > r.offset {
			whole -= time.Second
		}
		t.Time = unix.Timeval{Sec: int64(whole / time.Second), Usec: int64(r.offset - whole)} // ADJ_NANO: nanoseconds
		say := k.log.debugf
		if k.right {
			say = k.log.warnf
		}
		say("the clock is off by %s: it is set by %s's", r.offset, k.cloud)
	} else {
		t.Modes |= unix.ADJ_OFFSET
		t.Offset = int64(max(-maxSlew, min(maxSlew, r.offset)))
		if off > maxDrift {
			t.Status |= unix.STA_FREQHOLD
		}
	}
	if err := k.adjust(t); err != nil {
		return err
	}
	k.right = true
	return nil
}

// askTime asks a server for the time, by SNTP (RFC 4330). The ntp package of
// github.com/beevik would make PID 1 600 KB larger.
func askTime(server netip.AddrPort) (reading, error) {
	limit := time.Now().Add(clockTry)
	conn, err := dial(unix.SOCK_DGRAM, server, "the time server", limit)
	if err != nil {
		return reading{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(limit); err != nil {
		return reading{}, err
	}
	// The server says in its answer what the question said of the time. It needs
	// not be the time: a number that nobody can guess keeps others' answers out.
	question, secret := [ntpSize]byte{ntpVersion<<3 | ntpClient}, rand.Uint64()
	binary.BigEndian.PutUint64(question[40:], secret)
	sent := time.Now()
	if _, err := conn.Write(question[:]); err != nil {
		return reading{}, err
	}
	for bad := error(nil); ; {
		var answer [512]byte
		n, err := conn.Read(answer[:])
		took := time.Since(sent)
		if err != nil && !errors.Is(err, io.EOF) { // an empty datagram
			if bad != nil {
				err = bad // says more
			}
			return reading{}, err
		}
		r, err := readTime(answer[:n], secret, sent, took)
		if err == nil {
			return r, nil
		}
		bad = err // the right one may come yet
	}
}

const (
	ntpSize, ntpVersion  = 48, 4
	ntpClient, ntpServer = 3, 4 // modes
)

// readTime reads the answer to a question that was sent at that time, by the
// clock of the machine, and that took so long to be answered (RFC 4330,
// sections 4 and 5).
func readTime(b []byte, secret uint64, sent time.Time, took time.Duration) (reading, error) {
	if len(b) < ntpSize {
		return reading{}, errors.New("the time server's answer is too short")
	}
	leap, mode, stratum := b[0]>>6, b[0]&7, b[1]
	received, left := ntpTime(b[32:]), ntpTime(b[40:])
	held := left.Sub(received)
	switch {
	case mode != ntpServer || binary.BigEndian.Uint64(b[24:]) != secret:
		return reading{}, errors.New("what the time server sends is no answer")
	case stratum == 0:
		return reading{}, fmt.Errorf("the time server refuses: %q", b[12:16])
	case leap == 3 || stratum > 15:
		return reading{}, errors.New("the time server does not know the time")
	case received.IsZero() || left.IsZero() || held < 0 || held > took:
		return reading{}, errors.New("the time server's times cannot be")
	}
	r := reading{
		offset:   received.Add(held / 2).Sub(sent.Add(took / 2)),
		distance: ntpSpan(b[4:])/2 + ntpSpan(b[8:]) + (took-held)/2,
	}
	if r.distance > maxDistance {
		return reading{}, fmt.Errorf("the time server's answer may be wrong by %s", r.distance)
	}
	return r, nil
}

// ntpTime is a time stamp in seconds and fractions since 1900, or since 2036,
// when the seconds begin anew: by RFC 4330, section 3, the first bit tells
// which. 0 is none.
func ntpTime(b []byte) time.Time {
	const from1900, from2036 = -2_208_988_800, -2_208_988_800 + 1<<32
	seconds, fraction := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	era := int64(from1900)
	switch {
	case seconds == 0 && fraction == 0:
		return time.Time{}
	case seconds < 1<<31:
		era = from2036
	}
	return time.Unix(era+int64(seconds), int64(uint64(fraction)*1e9>>32))
}

// ntpSpan is a time span, in units of 2^-16 s.
func ntpSpan(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second >> 16
}
