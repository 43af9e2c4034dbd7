package instance

import (
	"io"
	"time"

	"capstan/guest/api"
)

// quiet is how long the end of the output is held back, in case that it is
// the beginning of an exit report. PID 1 writes reports in one piece.
const quiet = 50 * time.Millisecond

// unreported passes a console on, but for the exit report at its end.
type unreported struct {
	w    io.Writer
	held []byte // what may belong to it
}

func (u *unreported) Write(p []byte) (int, error) {
	u.held = append(u.held, p...)
	pass := len(u.held) - api.HoldBack(u.held)
	if _, err := u.w.Write(u.held[:pass]); err != nil {
		return 0, err
	}
	u.held = append([]byte(nil), u.held[pass:]...)
	return len(p), nil
}

// doubtful reports whether what is held back is a report in part, at the most.
func (u *unreported) doubtful() bool {
	return len(u.held) > 0 && len(u.held) < len(api.FormatExit(api.Exit{}))
}

// release passes on what is held back: it was for nothing.
func (u *unreported) release() error {
	_, err := u.w.Write(u.held)
	u.held = nil
	return err
}

// end passes on what is left, and returns the report.
func (u *unreported) end() (api.Exit, bool, error) {
	rest, exit, reported := api.ParseExit(u.held)
	_, err := u.w.Write(rest)
	return exit, reported, err
}

// relay copies a machine's console to w until it ends, and returns the exit
// report that stood at its end. What may be its beginning is held back for
// the time quiet.
func relay(w io.Writer, console io.Reader) (api.Exit, bool, error) {
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
	out := &unreported{w: w}
	for {
		var silence <-chan time.Time
		if out.doubtful() {
			silence = time.After(quiet)
		}
		var err error
		select {
		case piece, ok := <-pieces:
			if !ok {
				return out.end()
			}
			_, err = out.Write(piece)
		case <-silence:
			err = out.release()
		}
		if err != nil {
			return api.Exit{}, false, err
		}
	}
}
