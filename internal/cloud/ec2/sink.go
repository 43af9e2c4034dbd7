package ec2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// blockSize is that of the EBS direct APIs.
const blockSize = 512 << 10

// sum is the SHA-256 of a block.
type sum = [sha256.Size]byte

// block is one that is not zero. Its buffer goes back once it is sent.
type block struct {
	index int32
	data  []byte
}

// sink cuts a disk into blocks and hands those that are not zero to workers.
// It is written in ascending order, and holds a block for each worker.
type sink struct {
	ctx    context.Context
	free   chan []byte // nil ones are still to be made
	blocks chan block
	group  *errgroup.Group

	at   int64  // where the last write ended
	open *block // the one that is being written

	mu   sync.Mutex
	sums []blockSum
}

type blockSum struct {
	index int32
	sum   sum
}

// newSink starts workers, which call send for each block.
func newSink(ctx context.Context, workers int, send func(ctx context.Context, b block, s sum) error) *sink {
	group, ctx := errgroup.WithContext(ctx)
	s := &sink{ctx: ctx, free: make(chan []byte, workers+1), blocks: make(chan block), group: group}
	for range workers + 1 {
		s.free <- nil
	}
	for range workers {
		group.Go(func() error {
			for b := range s.blocks {
				if err := s.process(b, send); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return s
}

func (s *sink) process(b block, send func(context.Context, block, sum) error) error {
	digest := sha256.Sum256(b.data)
	if err := send(s.ctx, b, digest); err != nil {
		return err
	}
	s.mu.Lock()
	s.sums = append(s.sums, blockSum{b.index, digest})
	s.mu.Unlock()
	s.free <- b.data
	return nil
}

// WriteAt takes a piece that begins where the last one ended, or behind it.
func (s *sink) WriteAt(p []byte, at int64) (int, error) {
	if at < s.at {
		return 0, fmt.Errorf("writing at %d behind %d, which is sent already", at, s.at)
	}
	total := len(p)
	for len(p) > 0 {
		index := int32(at / blockSize)
		if s.open != nil && s.open.index != index {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
		if s.open == nil {
			if err := s.begin(index); err != nil {
				return 0, err
			}
		}
		n := copy(s.open.data[at%blockSize:], p)
		p, at = p[n:], at+int64(n)
	}
	s.at = at
	return total, nil
}

// begin takes an empty buffer.
func (s *sink) begin(index int32) error {
	select {
	case data := <-s.free:
		if data == nil {
			data = make([]byte, blockSize)
		} else {
			clear(data)
		}
		s.open = &block{index, data}
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

var zeros = make([]byte, blockSize)

// flush hands the block over that is being written.
func (s *sink) flush() error {
	b := *s.open
	s.open = nil
	if bytes.Equal(b.data, zeros) {
		s.free <- b.data
		return nil
	}
	select {
	case s.blocks <- b:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// close ends the writing, which ended with an error or without, and waits for
// the workers. Its error is that of the first of them.
func (s *sink) close(written error) error {
	if written == nil && s.open != nil {
		written = s.flush()
	}
	close(s.blocks)
	err := s.group.Wait()
	if err != nil && (written == nil || errors.Is(written, context.Canceled)) {
		return err // why writing was cancelled
	}
	return written
}

// total is the checksum of all blocks, as the EBS direct APIs aggregate them:
// linear, of those of the blocks in their order.
func (s *sink) total() sum {
	slices.SortFunc(s.sums, func(a, b blockSum) int { return int(a.index) - int(b.index) })
	h := sha256.New()
	for _, b := range s.sums {
		h.Write(b.sum[:])
	}
	return sum(h.Sum(nil))
}

// record is how a block that was sent is noted: its index and its checksum.
const recordSize = 4 + sha256.Size

func (b blockSum) record() []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(b.index)), b.sum[:]...)
}
