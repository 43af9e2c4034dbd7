package main

import (
	"os"
	"sync"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far pieces of work are: a bar for each on a terminal,
// else a line when each begins and ends, to standard error. It is what the
// packages that do long work call Progress.
type progress struct {
	say   func(format string, args ...any)
	bars  *mpb.Progress // nil where there is no terminal
	brief bool          // bars vanish when they are full

	mu     sync.Mutex
	pieces map[string]*piece
}

// piece is one piece of work that was begun.
type piece struct {
	bar  *mpb.Bar
	done bool
}

// newProgress returns a progress that the caller closes. With quiet it shows
// nothing.
func newProgress(cmd *cobra.Command, quiet bool) *progress {
	p := &progress{pieces: map[string]*piece{}, say: func(string, ...any) {}}
	if quiet {
		return p
	}
	p.say = func(format string, args ...any) { note(cmd, format, args...) }
	if out, ok := cmd.ErrOrStderr().(*os.File); ok && term.IsTerminal(int(out.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40))
	}
	return p
}

// newBriefProgress is newProgress for work on the way to something else: it
// leaves nothing on a terminal, and says nothing elsewhere.
func newBriefProgress(cmd *cobra.Command) *progress {
	p := newProgress(cmd, false)
	p.brief, p.say = true, func(string, ...any) {}
	return p
}

// percent is the total of work that is told in parts of a hundred, as clouds do.
const percent = 100

// Update tells how far a piece of work is, in bytes or in parts of a hundred. A
// total of 0 is not known.
func (p *progress) Update(name string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.pieces[name]
	if w == nil {
		w = &piece{}
		p.pieces[name] = w
		p.begin(w, name, done, total)
	}
	if w.done {
		return
	}
	w.done = total > 0 && done == total
	switch {
	case w.bar != nil:
		w.bar.SetCurrent(done)
	case w.done:
		p.say("%s: done", name)
	}
}

func (p *progress) begin(w *piece, name string, done, total int64) {
	w.done = total > 0 && done == total
	if p.bars == nil {
		switch {
		case w.done:
			p.say("%s: there already", name)
		case total == 0 || total == percent:
			p.say("%s", name)
		default:
			p.say("%s: %s", name, size(total))
		}
		return
	}
	options := []mpb.BarOption{mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR))}
	switch total {
	case 0:
	case percent:
		options = append(options, mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace)))
	default:
		options = append(options, mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)))
	}
	if p.brief {
		options = append(options, mpb.BarRemoveOnComplete())
	}
	if total == 0 {
		w.bar = p.bars.AddSpinner(0, options...)
		return
	}
	w.bar = p.bars.AddBar(total, options...)
	w.bar.SetCurrent(done)
}

// close ends the display. Bars that are not full stay as they are.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		return
	}
	for _, w := range p.pieces {
		if w.bar != nil && !w.done {
			w.bar.Abort(p.brief)
		}
	}
	p.bars.Wait()
}

// waits shows on a terminal what is told of work, by platforms among others,
// between show and its end, and at no other time.
type waits struct {
	mu    sync.Mutex
	shown *progress
}

// show begins to, until hide is called, or the next show.
func (w *waits) show(cmd *cobra.Command) (hide func()) {
	w.hide()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shown = newBriefProgress(cmd)
	return w.hide
}

// hide takes away what is shown: before other output.
func (w *waits) hide() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shown != nil {
		w.shown.close()
		w.shown = nil
	}
}

// Update is progress's.
func (w *waits) Update(name string, done, total int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shown != nil {
		w.shown.Update(name, done, total)
	}
}

// working shows on a terminal that work is done whose end nobody knows, until
// that is told by done.
func (a *app) working(cmd *cobra.Command, name string) (done func()) {
	done = a.waits.show(cmd)
	a.waits.Update(name, 0, 0)
	return done
}
