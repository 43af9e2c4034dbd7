package instance

import (
	"fmt"
	"io"
	"time"

	"capstan/guest/api"
)

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
