package instance

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"capstan/guest/api"
)

// indexEntry is the size of an entry of the index in bytes.
const indexEntry = 16

// consoleLog is the application's output: the bytes in one file, and in a
// second one, for each piece that arrived, when (nanoseconds since the epoch)
// and at which offset, 8 bytes each, big-endian.
type consoleLog struct {
	bytes, index *os.File

	mu     sync.Mutex
	size   int64
	closed bool
	more   chan struct{} // closed and replaced when there is more to read
}

func openConsole(dir string) (*consoleLog, error) {
	const flags = os.O_RDWR | os.O_CREATE | os.O_APPEND
	b, err := os.OpenFile(filepath.Join(dir, consoleFile), flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the console's log: %w", err)
	}
	x, err := os.OpenFile(filepath.Join(dir, indexFile), flags, 0o600)
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("opening the console's log: %w", err)
	}
	size, err := b.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("opening the console's log: %w", err)
	}
	return &consoleLog{bytes: b, index: x, size: size, more: make(chan struct{})}, nil
}

func (c *consoleLog) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var entry [indexEntry]byte
	binary.BigEndian.PutUint64(entry[:8], uint64(time.Now().UnixNano()))
	c.mu.Lock()
	defer c.mu.Unlock()
	binary.BigEndian.PutUint64(entry[8:], uint64(c.size))
	if _, err := c.index.Write(entry[:]); err != nil {
		return 0, err
	}
	n, err := c.bytes.Write(p)
	c.size += int64(n)
	c.wake()
	return n, err
}

func (c *consoleLog) wake() {
	close(c.more)
	c.more = make(chan struct{})
}

// Close ends all that follow the log once they have read it.
func (c *consoleLog) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.wake()
}

// follow copies the log from offset to w, and what is added until the end.
func (c *consoleLog) follow(ctx context.Context, w io.Writer, offset int64, flush func()) error {
	for {
		c.mu.Lock()
		size, closed, more := c.size, c.closed, c.more
		c.mu.Unlock()
		if offset < size {
			n, err := io.Copy(w, io.NewSectionReader(c.bytes, offset, size-offset))
			offset += n
			if err != nil {
				return err
			}
			flush()
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

// quiet is how long the end of the output is held back, in case that it is
// the beginning of an exit report. PID 1 writes reports in one piece.
const quiet = 50 * time.Millisecond

// relay copies a machine's console to the log until it ends, and returns the
// exit report that stood at its end.
func (c *consoleLog) relay(console io.Reader) (api.Exit, bool, error) {
	pieces, done := make(chan []byte), make(chan struct{})
	defer close(done)
	go func() {
		defer close(pieces)
		for {
			buf := make([]byte, 64<<10)
			n, err := console.Read(buf)
			if n > 0 {
				select {
				case pieces <- buf[:n]:
				case <-done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	var held []byte
	for {
		var silence <-chan time.Time
		if len(held) > 0 && len(held) < len(api.FormatExit(api.Exit{})) {
			silence = time.After(quiet)
		}
		select {
		case piece, ok := <-pieces:
			if !ok {
				rest, exit, reported := api.ParseExit(held)
				_, err := c.Write(rest)
				return exit, reported, logError(err)
			}
			held = append(held, piece...)
			keep := api.HoldBack(held)
			if _, err := c.Write(held[:len(held)-keep]); err != nil {
				return api.Exit{}, false, logError(err)
			}
			held = append([]byte(nil), held[len(held)-keep:]...)
		case <-silence:
			if _, err := c.Write(held); err != nil {
				return api.Exit{}, false, logError(err)
			}
			held = nil
		}
	}
}

func logError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing the console's log: %w", err)
}

// OffsetSince returns where in the console's log the first piece stands that
// arrived at t or later.
func (i *Instance) OffsetSince(t time.Time) (int64, error) {
	index, err := os.Open(filepath.Join(i.Dir, indexFile))
	if err != nil {
		return 0, fmt.Errorf("reading the console's index: %w", err)
	}
	defer index.Close()
	info, err := index.Stat()
	if err != nil {
		return 0, fmt.Errorf("reading the console's index: %w", err)
	}
	var failed error
	entry := func(n int) (when, offset int64) {
		var e [indexEntry]byte
		if _, err := index.ReadAt(e[:], int64(n)*indexEntry); err != nil {
			failed = fmt.Errorf("reading the console's index: %w", err)
		}
		return int64(binary.BigEndian.Uint64(e[:8])), int64(binary.BigEndian.Uint64(e[8:]))
	}
	count := int(info.Size() / indexEntry)
	n := sort.Search(count, func(n int) bool { when, _ := entry(n); return when >= t.UnixNano() })
	if n == count || failed != nil {
		size, err := i.ConsoleSize()
		return size, errors.Join(failed, err)
	}
	_, offset := entry(n)
	return offset, failed
}

// OffsetTail returns where in the console's log its last n lines begin.
func (i *Instance) OffsetTail(n int) (int64, error) {
	f, err := os.Open(i.ConsolePath())
	if err != nil {
		return 0, fmt.Errorf("reading the console's log: %w", err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n <= 0 {
		return end, err
	}
	buf := make([]byte, 64<<10)
	for at := end; at > 0; {
		part := buf[:min(int64(len(buf)), at)]
		at -= int64(len(part))
		if _, err := f.ReadAt(part, at); err != nil {
			return 0, fmt.Errorf("reading the console's log: %w", err)
		}
		for k := len(part) - 1; k >= 0; k-- {
			if part[k] != '\n' || at+int64(k) == end-1 {
				continue // the last line's own end
			}
			if n--; n == 0 {
				return at + int64(k) + 1, nil
			}
		}
	}
	return 0, nil
}

// ConsolePath is the file of the application's output.
func (i *Instance) ConsolePath() string { return filepath.Join(i.Dir, consoleFile) }

// KernelPath is the file of the kernel's own messages.
func (i *Instance) KernelPath() string { return filepath.Join(i.Dir, kernelFile) }

// ConsoleSize is how many bytes the console's log holds; 0 before it exists.
func (i *Instance) ConsoleSize() (int64, error) {
	info, err := os.Stat(i.ConsolePath())
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the console's log: %w", err)
	}
	return info.Size(), nil
}
