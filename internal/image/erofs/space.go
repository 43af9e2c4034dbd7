package erofs

// maxBlocks is the largest image: block addresses have 32 bits, and the last
// value means a hole.
const maxBlocks = nullAddr

// Bounds on the allocator's own bookkeeping.
const (
	maxOpen = 32  // metadata blocks that still have room
	maxFree = 256 // runs of blocks to be used again
)

// extent is a run of blocks.
type extent struct{ start, count uint32 }

// room is what is left of a metadata block: bytes [off, end) of the image.
type room struct{ off, end int64 }

// space hands out the image's blocks.
type space struct {
	next uint32   // all blocks from here on are untouched
	open []room   // in no order
	free []extent // in order of release
}

// blocks gives a run of n blocks, one that was freed if there is one.
func (s *space) blocks(n int64) (uint32, error) {
	if n == 0 {
		return 0, nil
	}
	best := -1
	for i, f := range s.free {
		if int64(f.count) >= n && (best < 0 || f.count < s.free[best].count) {
			best = i
		}
	}
	if best >= 0 {
		f := s.free[best]
		s.free = append(s.free[:best], s.free[best+1:]...)
		s.release(extent{f.start + uint32(n), f.count - uint32(n)})
		return f.start, nil
	}
	if int64(s.next)+n > maxBlocks {
		return 0, &LimitError{"blocks of the image", maxBlocks}
	}
	start := s.next
	s.next += uint32(n)
	return start, nil
}

// release takes back blocks that nothing refers to any more. Of more than
// maxFree runs, the smallest is forgotten.
func (s *space) release(e extent) {
	if e.count == 0 {
		return
	}
	s.free = append(s.free, e)
	if len(s.free) <= maxFree {
		return
	}
	least := 0
	for i, f := range s.free {
		if f.count < s.free[least].count {
			least = i
		}
	}
	s.free = append(s.free[:least], s.free[least+1:]...)
}

// shrink gives back the unused end of a run that blocks gave last: all but
// the first used blocks of it. They have not been written.
func (s *space) shrink(e extent, used int64) {
	if int64(e.start)+int64(e.count) == int64(s.next) {
		s.next = e.start + uint32(used)
		return
	}
	s.release(extent{e.start + uint32(used), e.count - uint32(used)})
}

// item gives the offset of n bytes of metadata at a multiple of align, which
// divides the block size. Up to a block's size, they lie within one block,
// the fullest that has room.
func (s *space) item(n, align int64) (int64, error) {
	best := -1
	for i, r := range s.open {
		if roundUp(r.off, align)+n <= r.end && (best < 0 || r.end-r.off < s.open[best].end-s.open[best].off) {
			best = i
		}
	}
	if best >= 0 {
		r := &s.open[best]
		off := roundUp(r.off, align)
		r.off = off + n
		if r.end-r.off < inodeSize {
			s.open = append(s.open[:best], s.open[best+1:]...)
		}
		return off, nil
	}
	count := blocksFor(n)
	if int64(s.next)+count > maxBlocks {
		return 0, &LimitError{"blocks of the image", maxBlocks}
	}
	off := int64(s.next) << blockBits
	s.next += uint32(count)
	s.leave(room{off + n, off + count<<blockBits})
	return off, nil
}

// leave notes the rest of a metadata block; of more than maxOpen, the
// fullest is closed.
func (s *space) leave(r room) {
	if r.end-r.off < inodeSize {
		return
	}
	s.open = append(s.open, r)
	if len(s.open) <= maxOpen {
		return
	}
	least := 0
	for i, r := range s.open {
		if r.end-r.off < s.open[least].end-s.open[least].off {
			least = i
		}
	}
	s.open = append(s.open[:least], s.open[least+1:]...)
}
