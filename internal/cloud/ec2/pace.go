package ec2

import (
	"context"
	"sync"
)

// maxParallel is how many blocks are sent at once at most. At the 40 ms that a
// block takes within a region these are 400 MB/s.
const maxParallel = 32

// pace bounds how many blocks are under way at once. It begins low, grows with
// each that arrives, and shrinks when the cloud says that it is too much; that
// finds the rate which the account is allowed, and shares it fairly with other
// callers (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms",
// 1989).
type pace struct {
	mu      sync.Mutex
	changed sync.Cond
	most    float64
	limit   float64
	active  int
	settle  int // calls to end before the limit is lowered again
}

func newPace(most int) *pace {
	p := &pace{most: float64(most), limit: min(8, float64(most))}
	p.changed.L = &p.mu
	return p
}

// enter waits for its turn.
func (p *pace) enter(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.active > 0 && float64(p.active)+1 > p.limit {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.changed.Wait()
	}
	p.active++
	return ctx.Err()
}

// leave ends a turn, however enter ended.
func (p *pace) leave(arrived bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
	p.settle = max(0, p.settle-1)
	if arrived {
		p.limit = min(p.most, p.limit+1/p.limit)
	}
	p.changed.Broadcast()
}

// slower lowers the limit, once for all the calls that are under way: they all
// were made before anything was known.
func (p *pace) slower() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settle == 0 {
		p.limit = max(1, p.limit*0.8)
		p.settle = p.active
	}
}
