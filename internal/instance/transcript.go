package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

const (
	// beginBound is how much of a console PID 1's first report is looked for in,
	// and more than any window shows.
	beginBound = 256 << 10

	// sureOverlap is how much two windows that are not all have to share for
	// nothing to be missing between them: a line's end is in each of them.
	sureOverlap = 32

	// earlierFile holds the window as it was before the last start.
	earlierFile = "earlier.log"
)

// transcript is what a machine's console says in one run, read by asking again
// and again. On most platforms a console is the run's, and its bytes have their
// places. Others show a window on the end of all that was ever said: there the
// place of one is found by what it shares with the one before.
type transcript struct {
	inst   *Instance
	h      hypervisor.Handle
	kernel bool
	began  bool // the application's output has, or all is wanted

	at int64 // where to go on

	window bool   // the platform shows one
	seen   []byte // what was in the last, or what earlier runs have said
	asked  bool   // it was the last one
	unread int    // how much of its end is this run's, and was not copied

	inLine bool // what was copied does not end a line
}

func (i *Instance) transcript(h hypervisor.Handle) (*transcript, error) {
	t := &transcript{inst: i, h: h, window: i.remote.Capabilities().Window}
	if !t.window {
		return t, nil
	}
	var err error
	t.seen, err = os.ReadFile(filepath.Join(i.Dir, earlierFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading what was said before: %w", err)
	}
	return t, nil
}

// ask returns what the transcript goes on with, and whether something is
// missing before it: what was read of it already, and a reader of the rest.
func (t *transcript) ask(ctx context.Context) (said []byte, rest *hypervisor.Console, missing bool, err error) {
	c, err := t.inst.remote.Console(ctx, t.h, hypervisor.ConsolePart{Kernel: t.kernel, Offset: t.at})
	if err != nil {
		return nil, nil, false, err
	}
	if t.window || !t.began {
		said, err = io.ReadAll(io.LimitReader(c, beginBound))
	}
	if err != nil {
		c.Close()
		return nil, nil, false, t.reading(err)
	}
	if t.window {
		said, missing = t.after(said, c.Offset)
		return said, c, missing, nil
	}
	return said, c, c.Offset > t.at, nil
}

func (t *transcript) reading(err error) error {
	return fmt.Errorf("reading the console of %s: %w", t.inst.Config.Name, err)
}

// after is what a window has that was not copied, and whether something is
// missing before it.
func (t *transcript) after(window []byte, offset int64) (said []byte, missing bool) {
	if bytes.Contains(t.seen, window) { // nothing new, or an answer that is older
		return t.seen[len(t.seen)-t.unread:], false
	}
	shared := overlap(t.seen, window)
	sure := shared >= sureOverlap || offset == 0 && shared == len(t.seen)
	missing = !sure && (offset != 0 || t.asked)
	said = window[shared-min(shared, t.unread):]
	t.seen, t.asked, t.unread = window, true, 0
	return said, missing
}

// overlap is how long the longest beginning of next is that last ends with, by
// the algorithm of Knuth, Morris and Pratt.
func overlap(last, next []byte) int {
	last = last[max(0, len(last)-len(next)):]
	// What a match of n bytes falls back to: the longest beginning of next, but
	// for itself, that next[:n] ends with.
	back := make([]int, len(next)+1)
	n := 0
	for at := 1; at < len(next); at++ {
		for n > 0 && next[n] != next[at] {
			n = back[n]
		}
		if next[n] == next[at] {
			n++
		}
		back[at+1] = n
	}
	n = 0
	for _, b := range last {
		for n > 0 && next[n] != b {
			n = back[n]
		}
		if next[n] == b {
			n++
		}
	}
	return n
}

// begin finds where the application's output begins.
func (t *transcript) begin(said []byte) (api.Begin, int, bool) {
	if t.window {
		return api.LastBegin(said)
	}
	return api.ParseBegin(said)
}

// copy copies to w what was said since the last time, from where the
// application's output begins. Of a machine that is off, and has not come so
// far, all is worth reading.
func (t *transcript) copy(ctx context.Context, w io.Writer, off bool) (int64, error) {
	said, rest, missing, err := t.ask(ctx)
	if err != nil {
		return 0, err
	}
	defer rest.Close()
	at := rest.Offset + int64(len(said))
	if !t.began {
		_, end, ok := t.begin(said)
		if !ok && !missing && !off {
			t.unread = len(said)
			return 0, nil
		}
		if ok {
			said, missing = said[end:], false
		}
		t.began = true
	}
	out := &lineWriter{w, t.inLine}
	if missing {
		if err := out.lost(t.inst.remote.Name()); err != nil {
			return 0, err
		}
	}
	n, err := io.Copy(out, io.MultiReader(bytes.NewReader(said), rest))
	t.inLine = out.inLine
	if !t.window {
		t.at = at + n - int64(len(said))
	}
	if err != nil {
		return n, t.reading(err)
	}
	return n, nil
}

// lineWriter knows whether what it has written ends a line.
type lineWriter struct {
	w      io.Writer
	inLine bool
}

func (l *lineWriter) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	if n > 0 {
		l.inLine = p[n-1] != '\n'
	}
	return n, err
}

// lost says where output is missing, on a line of its own.
func (l *lineWriter) lost(platform string) error {
	before := ""
	if l.inLine {
		before = "\n"
	}
	_, err := fmt.Fprintf(l, "%s[capstan: output is missing here: %s keeps only the end of a console]\n", before, platform)
	return err
}

// begun returns PID 1's first report where it has said one, and whether the
// application's output has begun.
func (i *Instance) begun(ctx context.Context, h hypervisor.Handle) (api.Begin, bool, error) {
	t, err := i.transcript(h)
	if err != nil {
		return api.Begin{}, false, err
	}
	said, rest, missing, err := t.ask(ctx)
	if err != nil {
		return api.Begin{}, false, err
	}
	defer rest.Close()
	b, _, ok := t.begin(said)
	return b, ok || missing, nil
}

// reported returns the exit report of a machine that is off, if there is one.
func (i *Instance) reported(ctx context.Context, h hypervisor.Handle) (api.Exit, bool, error) {
	const tail = 8 << 10 // more than any report is long
	t, err := i.transcript(h)
	if err != nil {
		return api.Exit{}, false, err
	}
	if !t.window {
		t.at = -tail
	}
	said, rest, _, err := t.ask(ctx)
	if err != nil {
		return api.Exit{}, false, err
	}
	defer rest.Close()
	if _, end, ok := t.begin(said); ok {
		said = said[end:]
	}
	_, e, ok := api.ParseExit(said)
	return e, ok, nil
}

// keepWindow notes what the console has said before a start, on platforms where
// it goes on saying it.
func (i *Instance) keepWindow(ctx context.Context, h hypervisor.Handle) error {
	if !i.remote.Capabilities().Window {
		return nil
	}
	c, err := i.remote.Console(ctx, h, hypervisor.ConsolePart{})
	if err != nil {
		return err
	}
	defer c.Close()
	window, err := io.ReadAll(io.LimitReader(c, beginBound))
	if err == nil {
		err = os.WriteFile(filepath.Join(i.Dir, earlierFile), window, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping what %s has said: %w", i.Config.Name, err)
	}
	return nil
}
