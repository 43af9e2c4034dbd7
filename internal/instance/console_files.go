package instance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// The console's log is one stream of bytes, kept in segments. A segment is two
// files, named by where in the stream it begins, in 20 decimal digits:
//
//	console.OFFSET.log  the bytes
//	console.OFFSET.idx  for each piece that arrived, when (nanoseconds since
//	                    the epoch) and at which offset of the stream, 8 bytes
//	                    each, big-endian
//
// Only the newest is written to. Rotating adds a segment and removes the
// oldest: nothing is renamed, no other file says which there are, and an
// offset means the same byte for ever. A kill at any moment leaves at most an
// index entry without bytes, or one segment more.
const (
	segmentPrefix = "console."
	logSuffix     = ".log"
	indexSuffix   = ".idx"

	// indexEntry is the size of an entry of the index in bytes.
	indexEntry = 16
)

func segmentPath(dir string, begin int64, suffix string) string {
	return filepath.Join(dir, fmt.Sprintf("%s%020d%s", segmentPrefix, begin, suffix))
}

func logPath(dir string, begin int64) string   { return segmentPath(dir, begin, logSuffix) }
func indexPath(dir string, begin int64) string { return segmentPath(dir, begin, indexSuffix) }

// logSegments returns where the segments in dir begin, oldest first, and where
// the last one ends.
func logSegments(dir string) (begins []int64, size int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the console's log: %w", err)
	}
	for _, e := range entries { // sorted by name
		digits, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), segmentPrefix), logSuffix)
		if begin, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
			begins = append(begins, begin)
		}
	}
	if len(begins) == 0 {
		return nil, 0, nil
	}
	newest := begins[len(begins)-1]
	info, err := os.Stat(logPath(dir, newest))
	if errors.Is(err, fs.ErrNotExist) { // rotated meanwhile, as often as there are segments
		return logSegments(dir)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading the console's log: %w", err)
	}
	return begins, newest + info.Size(), nil
}

// segmentAt returns where the segment begins and ends that holds offset or,
// where that is gone, the oldest.
func segmentAt(begins []int64, size, offset int64) (begin, end int64) {
	n, found := slices.BinarySearch(begins, offset)
	if !found {
		n = max(n-1, 0)
	}
	if n == len(begins)-1 {
		return begins[n], size
	}
	return begins[n], begins[n+1]
}

// copySegment copies what stands from offset to end, in the segment that
// begins at begin.
func copySegment(w io.Writer, dir string, begin, offset, end int64) (int64, error) {
	f, err := os.Open(logPath(dir, begin))
	if err != nil {
		return 0, fmt.Errorf("reading the console's log: %w", err)
	}
	defer f.Close()
	return io.Copy(w, io.NewSectionReader(f, offset-begin, end-offset))
}

func removeSegment(dir string, begin int64) error {
	for _, path := range []string{indexPath(dir, begin), logPath(dir, begin)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotating the console's log: %w", err)
		}
	}
	return nil
}

// CopyLog copies what the console's log has from an offset to its end.
func (i *Instance) CopyLog(w io.Writer, offset int64) error {
	begins, size, err := logSegments(i.Dir)
	for err == nil && offset < size {
		begin, end := segmentAt(begins, size, offset)
		offset = max(offset, begin)
		var n int64
		n, err = copySegment(w, i.Dir, begin, offset, end)
		offset += n
		if errors.Is(err, fs.ErrNotExist) { // rotated meanwhile
			begins, _, err = logSegments(i.Dir)
		}
	}
	return err
}

// LogSize is where the console's log ends; 0 before it exists.
func (i *Instance) LogSize() (int64, error) {
	_, size, err := logSegments(i.Dir)
	return size, err
}

// OffsetSince returns where in the console's log the first piece stands that
// arrived at t or later.
func (i *Instance) OffsetSince(t time.Time) (int64, error) {
	begins, offset, err := logSegments(i.Dir)
	if err != nil {
		return 0, err
	}
	for _, begin := range slices.Backward(begins) {
		at, first, err := sinceIn(indexPath(i.Dir, begin), t)
		if errors.Is(err, fs.ErrNotExist) {
			break // rotated meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("reading the console's index: %w", err)
		}
		if at >= 0 {
			offset = at
		}
		if !first {
			break
		}
	}
	return offset, nil
}

// sinceIn returns the offset of the first entry of an index at t or later, -1
// if there is none, and whether an older segment may hold an earlier one.
func sinceIn(path string, t time.Time) (offset int64, first bool, err error) {
	index, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer index.Close()
	info, err := index.Stat()
	if err != nil {
		return 0, false, err
	}
	var failed error
	entry := func(n int) (when, offset int64) {
		var e [indexEntry]byte
		if _, err := index.ReadAt(e[:], int64(n)*indexEntry); err != nil {
			failed = err
		}
		return int64(binary.BigEndian.Uint64(e[:8])), int64(binary.BigEndian.Uint64(e[8:]))
	}
	count := int(info.Size() / indexEntry)
	n := sort.Search(count, func(n int) bool { when, _ := entry(n); return when >= t.UnixNano() })
	if n == count {
		return -1, count == 0, failed
	}
	_, offset = entry(n)
	return offset, n == 0, failed
}

// OffsetTail returns where in the console's log its last n lines begin.
func (i *Instance) OffsetTail(n int) (int64, error) {
	begins, end, err := logSegments(i.Dir)
	if err != nil || len(begins) == 0 || n <= 0 {
		return end, err
	}
	upTo := end
	for _, begin := range slices.Backward(begins) {
		at, lines, err := tailIn(logPath(i.Dir, begin), begin, upTo, end, n)
		if errors.Is(err, fs.ErrNotExist) {
			return upTo, nil // rotated meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("reading the console's log: %w", err)
		}
		if lines == n {
			return at, nil
		}
		n, upTo = n-lines, begin
	}
	return begins[0], nil
}

// tailIn looks backwards from upTo, in the segment that begins at begin, for
// the n-th end of a line that is not the log's end; at is what follows it.
func tailIn(path string, begin, upTo, end int64, n int) (at int64, lines int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for upTo > begin {
		part := buf[:min(int64(len(buf)), upTo-begin)]
		upTo -= int64(len(part))
		if _, err := f.ReadAt(part, upTo-begin); err != nil {
			return 0, 0, err
		}
		for k := len(part) - 1; k >= 0; k-- {
			if part[k] != '\n' || upTo+int64(k) == end-1 {
				continue // the last line's own end
			}
			if lines++; lines == n {
				return upTo + int64(k) + 1, lines, nil
			}
		}
	}
	return 0, lines, nil
}

// KernelPath is the file of the kernel's own messages.
func (i *Instance) KernelPath() string { return filepath.Join(i.Dir, kernelFile) }
