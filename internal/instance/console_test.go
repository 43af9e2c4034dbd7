package instance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newConsole(t *testing.T, limit LogLimit) (*consoleLog, *Instance) {
	t.Helper()
	i := &Instance{Dir: t.TempDir()}
	c, err := openConsole(i.Dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, i
}

func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Fatalf("wrote %d of %d bytes, %v", n, len(text), err)
	}
}

// copied is what logs shows from an offset on.
func copied(t *testing.T, i *Instance, offset int64) string {
	t.Helper()
	var b bytes.Buffer
	if err := i.CopyLog(&b, offset); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestOffsets(t *testing.T) {
	c, i := newConsole(t, DefaultLog)
	say(t, c, "one\ntwo\n")
	between := time.Now()
	say(t, c, "three\nfour")
	for n, want := range map[int]int64{0: 18, 1: 14, 2: 8, 3: 4, 4: 0, 9: 0} {
		if got, err := i.OffsetTail(n); err != nil || got != want {
			t.Errorf("tail %d: %d, %v, want %d", n, got, err, want)
		}
	}
	for at, want := range map[time.Time]int64{{}: 0, between: 8, time.Now().Add(time.Hour): 18} {
		if got, err := i.OffsetSince(at); err != nil || got != want {
			t.Errorf("since %v: %d, %v, want %d", at, got, err, want)
		}
	}
}

// Before there is a log, it is empty.
func TestNoLog(t *testing.T) {
	i := &Instance{Dir: t.TempDir()}
	for what, f := range map[string]func() (int64, error){
		"size":  i.LogSize,
		"tail":  func() (int64, error) { return i.OffsetTail(3) },
		"since": func() (int64, error) { return i.OffsetSince(time.Now()) },
	} {
		if at, err := f(); at != 0 || err != nil {
			t.Errorf("%s: %d, %v", what, at, err)
		}
	}
	if text := copied(t, i, 0); text != "" {
		t.Errorf("copied %q", text)
	}
}

func TestRotation(t *testing.T) {
	limit := LogLimit{Size: 4000, Files: 3}
	c, i := newConsole(t, limit)
	var all strings.Builder
	when := map[int]time.Time{}
	for n := range 1000 {
		when[n] = time.Now()
		line := fmt.Sprintf("line %d\n", n)
		all.WriteString(line)
		say(t, c, line)
		if n == 500 { // whatever was open is opened again
			c.Close()
			var err error
			if c, err = openConsole(i.Dir, limit); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer c.Close()
	text := all.String()
	files, err := os.ReadDir(i.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	if len(files) != 2*limit.Files || bytes > limit.Size*int64(limit.Files) {
		t.Errorf("%d files, %d bytes", len(files), bytes)
	}
	size, err := i.LogSize()
	if err != nil || size != int64(len(text)) {
		t.Errorf("size %d, %v, want %d", size, err, len(text))
	}
	kept := copied(t, i, 0)
	if !strings.HasSuffix(text, kept) || len(kept) < int(limit.Size)/2 {
		t.Fatalf("%d bytes are kept, and not the last", len(kept))
	}
	oldest := size - int64(len(kept))
	lines := strings.Count(kept, "\n")
	for _, n := range []int{1, 2, lines / 2, lines - 1, lines, lines + 1, 1000} {
		at, err := i.OffsetTail(n)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(copied(t, i, at), "\n"); got != min(n, lines) {
			t.Errorf("tail %d of %d lines shows %d", n, lines, got)
		}
	}
	for _, n := range []int{999, 990, 1000 - lines/2, 1000 - lines, 0} {
		want := max(int64(strings.Index(text, fmt.Sprintf("line %d\n", n))), oldest)
		if at, err := i.OffsetSince(when[n]); err != nil || at != want {
			t.Errorf("since line %d: %d, %v, want %d", n, at, err, want)
		}
	}
}

// A piece that is larger than a segment is one.
func TestLargePiece(t *testing.T) {
	c, i := newConsole(t, LogLimit{Size: 100, Files: 2})
	say(t, c, strings.Repeat("a", 500))
	say(t, c, strings.Repeat("b", 500))
	if text := copied(t, i, 0); text != strings.Repeat("a", 500)+strings.Repeat("b", 500) {
		t.Errorf("kept %d bytes", len(text))
	}
	say(t, c, "c")
	if text := copied(t, i, 250); text != strings.Repeat("b", 500)+"c" {
		t.Errorf("kept %q", text)
	}
}

// Who follows all of it makes the writer wait; who only follows does not, and
// gets what is left.
func TestFollow(t *testing.T) {
	c, _ := newConsole(t, LogLimit{Size: 1000, Files: 2})
	c.hold()
	text := strings.Repeat("0123456789", 1000)
	out, in := io.Pipe()
	ready, done := make(chan struct{}, 1), make(chan error, 1)
	attached := func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	}
	go func() {
		err := c.followAll(t.Context(), in, 0, attached)
		in.Close()
		done <- err
	}()
	<-ready
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for n := 0; n < len(text); n += 100 {
			io.WriteString(c, text[n:n+100])
		}
		c.Close()
	}()
	all, err := io.ReadAll(out)
	<-wrote
	if err != nil || <-done != nil || string(all) != text {
		t.Errorf("followed %d of %d bytes, %v", len(all), len(text), err)
	}
	var late bytes.Buffer
	if err := c.follow(t.Context(), &late, 0, func() {}); err != nil || late.Len() == 0 || !strings.HasSuffix(text, late.String()) {
		t.Errorf("a late follower gets %d bytes, %v", late.Len(), err)
	}
}

// A reader that does not read holds nobody up once it is gone, nor once the
// machine has ended.
func TestStuckReader(t *testing.T) {
	for name, free := range map[string]func(c *consoleLog, leave context.CancelFunc){
		"reader gone":   func(_ *consoleLog, leave context.CancelFunc) { leave() },
		"machine ended": func(c *consoleLog, _ context.CancelFunc) { c.letGo() },
	} {
		t.Run(name, func(t *testing.T) {
			c, i := newConsole(t, LogLimit{Size: 1000, Files: 2})
			c.hold()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			out, in := io.Pipe() // whose reader never reads
			context.AfterFunc(ctx, func() { out.Close() })
			ready, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				once := false
				c.followAll(ctx, in, 0, func() {
					if !once {
						once = true
						close(ready)
					}
				})
			}()
			<-ready
			wrote := make(chan struct{})
			go func() {
				defer close(wrote)
				for range 100 {
					io.WriteString(c, strings.Repeat("x", 100))
				}
			}()
			for full := false; !full; { // until the writer has come as far as it can
				c.mu.Lock()
				full = len(c.begins) > c.limit.Files
				c.mu.Unlock()
			}
			select {
			case <-wrote:
				t.Fatal("the writer did not wait")
			default:
			}
			free(c, leave)
			<-wrote
			leave()
			<-done
			if size, err := i.LogSize(); err != nil || size != 10000 {
				t.Errorf("size %d, %v", size, err)
			}
		})
	}
}

func TestIgnoresOtherFiles(t *testing.T) {
	c, i := newConsole(t, DefaultLog)
	for _, name := range []string{"console.x.log", "kernel.log", "console.log", "config.json"} {
		if err := os.WriteFile(filepath.Join(i.Dir, name), []byte("no"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	say(t, c, "yes")
	if text := copied(t, i, 0); text != "yes" {
		t.Errorf("copied %q", text)
	}
}
