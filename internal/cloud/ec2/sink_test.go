package ec2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestSink: whatever pieces a disk is written in, blocks that are not zero
// come out whole, once each, and no others.
func TestSink(t *testing.T) {
	const size = 40 * blockSize
	disk := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(disk[3*blockSize-5 : 9*blockSize+77])
	disk[20*blockSize] = 1
	disk[size-1] = 1
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		got, mu := map[int32][]byte{}, sync.Mutex{}
		s := newSink(t.Context(), 3, func(_ context.Context, b block, digest sum) error {
			mu.Lock()
			defer mu.Unlock()
			if got[b.index] != nil || digest != sha256.Sum256(b.data) {
				t.Errorf("block %d came again, or with another checksum", b.index)
			}
			got[b.index] = bytes.Clone(b.data)
			return nil
		})
		var err error
		for at := 0; at < size && err == nil; {
			n := min(1+r.IntN(3*blockSize), size-at)
			if part := disk[at : at+n]; r.IntN(4) > 0 || len(bytes.Trim(part, "\x00")) > 0 {
				_, err = s.WriteAt(part, int64(at))
			}
			at += n
		}
		if err := s.close(err); err != nil {
			t.Fatal(err)
		}
		whole := make([]byte, size)
		for index, b := range got {
			if bytes.Equal(b, zeros) {
				t.Errorf("block %d is of zeros", index)
			}
			copy(whole[int(index)*blockSize:], b)
		}
		if !bytes.Equal(whole, disk) || len(s.sums) != len(got) {
			t.Errorf("seed %d: %d blocks, which are not the disk", seed, len(got))
		}
	}
}

// TestSinkFails: an error of sending ends the writing, one of writing the
// sending; going back is one.
func TestSinkFails(t *testing.T) {
	refused := errors.New("refused")
	s := newSink(t.Context(), 2, func(context.Context, block, sum) error { return refused })
	var err error
	for i := int64(0); err == nil; i++ {
		_, err = s.WriteAt([]byte{1}, i*blockSize)
	}
	if err := s.close(err); !errors.Is(err, refused) {
		t.Errorf("%v and not what sending said", err)
	}
	s = newSink(t.Context(), 2, func(ctx context.Context, _ block, _ sum) error { return nil })
	_, first := s.WriteAt([]byte{1}, 100)
	_, back := s.WriteAt([]byte{1}, 50)
	if err := s.close(back); first != nil || back == nil || err == nil {
		t.Errorf("going back: %v, %v, %v", first, back, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s = newSink(ctx, 2, func(ctx context.Context, _ block, _ sum) error {
		<-ctx.Done()
		return ctx.Err()
	})
	cancel()
	for i := int64(0); err == nil; i++ {
		_, err = s.WriteAt([]byte{1}, i*blockSize)
	}
	if err := s.close(err); err == nil {
		t.Error("an interrupted push ended well")
	}
}

// TestPace: the limit grows with what arrives, and shrinks once for all that
// was under way, never below one call.
func TestPace(t *testing.T) {
	p := newPace(32)
	turn := func(arrived bool) {
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.leave(arrived)
	}
	for range 1000 {
		turn(true)
	}
	if p.limit != 32 {
		t.Errorf("the limit is %v", p.limit)
	}
	for range 8 {
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		p.slower()
	}
	if lowered := p.limit; lowered < 25 || lowered > 26 {
		t.Errorf("eight calls that were too many together lowered it to %v", lowered)
	}
	for range 8 {
		p.leave(false)
	}
	for range 200 {
		p.slower()
		turn(false)
	}
	if p.limit != 1 {
		t.Errorf("the limit is %v", p.limit)
	}
	turn(true)
	if err := p.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.limit = 1
	if err := p.enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a turn ended with %v", err)
	}
}
