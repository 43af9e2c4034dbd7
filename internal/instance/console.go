package instance

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// LogLimit bounds a console's log on disk.
type LogLimit struct {
	Size  int64 // of one segment, its index included, in bytes
	Files int   // how many segments are kept
}

// DefaultLog is the bound where none is set.
var DefaultLog = LogLimit{Size: 10 << 20, Files: 3}

// consoleLog is the application's output as its supervisor writes it:
// segments, as console_files.go describes them, of which the oldest go.
type consoleLog struct {
	dir   string
	limit LogLimit

	mu           sync.Mutex
	bytes, index *os.File // of the newest segment
	indexed      int64    // bytes in index
	begins       []int64  // of the segments, oldest first
	size         int64    // where the log ends
	readers      map[*reader]struct{}
	holding      bool // the machine waits for readers
	closed       bool
	more         chan struct{} // closed and replaced when there is more to read
	read         *sync.Cond    // a reader has read, or there is no point in waiting
}

// reader is one that nothing may be taken away from before it has read it.
type reader struct{ offset int64 }

func openConsole(dir string, limit LogLimit) (*consoleLog, error) {
	c := &consoleLog{dir: dir, limit: limit, readers: map[*reader]struct{}{}, more: make(chan struct{})}
	c.read = sync.NewCond(&c.mu)
	begins, size, err := logSegments(dir)
	if err != nil {
		return nil, err
	}
	c.begins, c.size = begins, size
	if len(begins) == 0 {
		c.begins = []int64{0}
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	return c, nil
}

// open opens the newest segment, and makes it where it is new.
func (c *consoleLog) open() error {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	newest := c.begins[len(c.begins)-1]
	index, err := os.OpenFile(indexPath(c.dir, newest), flags, 0o600)
	if err != nil {
		return fmt.Errorf("opening the console's log: %w", err)
	}
	bytes, err := os.OpenFile(logPath(c.dir, newest), flags, 0o600)
	if err == nil {
		c.indexed, err = index.Seek(0, io.SeekEnd)
	}
	if err != nil {
		index.Close()
		return fmt.Errorf("opening the console's log: %w", err)
	}
	c.bytes, c.index = bytes, index
	return nil
}

func (c *consoleLog) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	used := c.size - c.begins[len(c.begins)-1] + c.indexed
	if used > 0 && used+int64(len(p))+indexEntry > c.limit.Size {
		if err := c.rotate(); err != nil {
			return 0, err
		}
	}
	var entry [indexEntry]byte
	binary.BigEndian.PutUint64(entry[:8], uint64(time.Now().UnixNano()))
	binary.BigEndian.PutUint64(entry[8:], uint64(c.size))
	if _, err := c.index.Write(entry[:]); err != nil {
		return 0, err
	}
	c.indexed += indexEntry
	n, err := c.bytes.Write(p)
	c.size += int64(n)
	c.wake()
	return n, err
}

// rotate begins a new segment and removes those that are too many. It waits
// for readers that need them, and so makes the application wait, unless the
// machine has ended, or is to: then little more can come.
func (c *consoleLog) rotate() error {
	if err := errors.Join(c.bytes.Close(), c.index.Close()); err != nil {
		return fmt.Errorf("rotating the console's log: %w", err)
	}
	c.begins = append(c.begins, c.size)
	if err := c.open(); err != nil {
		return err
	}
	for len(c.begins) > c.limit.Files {
		for c.holding && c.needed(c.begins[1]) {
			c.read.Wait()
		}
		if c.needed(c.begins[1]) {
			return nil
		}
		if err := removeSegment(c.dir, c.begins[0]); err != nil {
			return err
		}
		c.begins = c.begins[1:]
	}
	return nil
}

// needed reports whether a reader has not come to offset yet.
func (c *consoleLog) needed(offset int64) bool {
	for r := range c.readers {
		if r.offset < offset {
			return true
		}
	}
	return false
}

// hold makes the machine wait for readers, from now on. letGo ends that: the
// machine has ended, or is to.
func (c *consoleLog) hold()  { c.setHolding(true) }
func (c *consoleLog) letGo() { c.setHolding(false) }

func (c *consoleLog) setHolding(holding bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = holding
	c.read.Broadcast()
}

// awaitReaders returns when those that miss nothing have read all.
func (c *consoleLog) awaitReaders() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.readers) > 0 {
		c.read.Wait()
	}
}

func (c *consoleLog) wake() {
	close(c.more)
	c.more = make(chan struct{})
}

// Close ends all that follow the log once they have read it.
func (c *consoleLog) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.wake()
	return errors.Join(c.bytes.Close(), c.index.Close())
}

// follow copies the log from offset to w, and what is added until the end.
// What is removed before it was read is skipped.
func (c *consoleLog) follow(ctx context.Context, w io.Writer, offset int64, flush func()) error {
	return c.copyTo(ctx, w, &reader{offset}, flush)
}

// followAll is follow by a reader that misses nothing of what the log has.
func (c *consoleLog) followAll(ctx context.Context, w io.Writer, offset int64, flush func()) error {
	r := &reader{offset}
	c.mu.Lock()
	c.readers[r] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.readers, r)
		c.read.Broadcast()
	}()
	return c.copyTo(ctx, w, r, flush)
}

func (c *consoleLog) copyTo(ctx context.Context, w io.Writer, r *reader, flush func()) error {
	flush()
	for {
		c.mu.Lock()
		begin, end := segmentAt(c.begins, c.size, r.offset)
		offset, closed, more := max(r.offset, begin), c.closed, c.more
		c.mu.Unlock()
		if offset < end {
			n, err := copySegment(w, c.dir, begin, offset, end)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			flush()
			c.advance(r, offset+n)
			continue
		}
		if closed {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// advance notes how far a reader has come.
func (c *consoleLog) advance(r *reader, offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.offset = offset
	c.read.Broadcast()
}
