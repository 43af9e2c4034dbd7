// Package inorder works at the pieces of a stream on all CPUs, and hands what
// becomes of them on in the stream's order. It holds no more than a few pieces
// for each CPU.
package inorder

import "runtime"

// Queue is of pieces on their way. It is for one goroutine; those that it
// starts have ended after Close or Discard.
type Queue[P any] struct {
	// Work is called for each piece, for several at once. Put is called for
	// each in the order of Add, once Work has returned.
	Work, Put func(*P) error

	under []*job[P]
	spare []*P
}

type job[P any] struct {
	piece *P
	err   error
	done  chan struct{}
}

// Free returns a piece to be filled: one that has been put, as it is, or a new
// one.
func (q *Queue[P]) Free() *P {
	last := len(q.spare) - 1
	if last < 0 {
		return new(P)
	}
	p := q.spare[last]
	q.spare = q.spare[:last]
	return p
}

// Add sends a piece on its way, once there are not too many on theirs.
func (q *Queue[P]) Add(p *P) error {
	if len(q.under) >= min(2*runtime.GOMAXPROCS(0)+2, 64) {
		if err := q.first(); err != nil {
			return err
		}
	}
	j := &job[P]{piece: p, done: make(chan struct{})}
	q.under = append(q.under, j)
	go func() {
		defer close(j.done)
		j.err = q.Work(p)
	}()
	return nil
}

// first waits for the first piece and puts it.
func (q *Queue[P]) first() error {
	j := q.under[0]
	q.under = q.under[1:]
	<-j.done
	q.spare = append(q.spare, j.piece)
	if j.err != nil {
		return j.err
	}
	return q.Put(j.piece)
}

// Close puts what is left. With an error, what is under way has ended, too.
func (q *Queue[P]) Close() error {
	defer q.Discard()
	for len(q.under) > 0 {
		if err := q.first(); err != nil {
			return err
		}
	}
	return nil
}

// Discard waits for what is under way, and puts nothing any more.
func (q *Queue[P]) Discard() {
	for _, j := range q.under {
		<-j.done
	}
	q.under = nil
}
