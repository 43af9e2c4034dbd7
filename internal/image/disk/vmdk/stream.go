package vmdk

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Markers, each of one sector, say what follows them.
const (
	markEnd       = 0
	markTable     = 1
	markDirectory = 2
	markFooter    = 3
)

// Stream writes an image of the kind streamOptimized, with compressed grains,
// as its disk is written, from its beginning to its end. The image is one after
// Close.
//
// To a stream it is written as the specification has it: the tables follow the
// grains, and a footer says where the directory is. In a file they come before
// the grains, as VMware's open-vmdk has them: there are readers, its own among
// them, that look for no footer.
type Stream struct {
	size   int64
	w      io.Writer
	at     int64 // where w is
	grains grains
	packer *packer
	finish func() error // writes the tables

	options Options
}

// NewStream returns a writer of an image of a disk of so many bytes.
func NewStream(w io.Writer, size int64, o Options) (*Stream, error) {
	if err := check(size); err != nil {
		return nil, err
	}
	s := newStream(size, o)
	s.w, s.finish = w, s.tablesBehind
	begin := make([]byte, grain) // VirtualBox aligns the first grain so
	copy(begin, s.header(atEnd, grain))
	copy(begin[descriptorAt:], o.descriptor(streamOptimized, size))
	return s, s.write(begin)
}

// NewStreamFile is NewStream for a file, which is empty or reads as zeros.
func NewStreamFile(f io.WriterAt, size int64, o Options) (*Stream, error) {
	if err := check(size); err != nil {
		return nil, err
	}
	s := newStream(size, o)
	front := newTables(tablesAt, size)
	s.at = front.end()
	s.w, s.finish = io.NewOffsetWriter(f, s.at), func() error { return s.tablesBefore(f, front) }
	return s, nil
}

const streamOptimized = "streamOptimized"

func newStream(size int64, o Options) *Stream {
	s := &Stream{size: size, options: o, grains: grains{}}
	s.packer = newPacker(size, s.put)
	return s
}

func (s *Stream) header(directory, overhead int64) []byte {
	return header{
		version: 3, flags: flagNewline | flagCompressed | flagMarkers, capacity: s.size,
		directory: directory, overhead: overhead, compression: deflate,
	}.bytes()
}

func (s *Stream) write(parts ...[]byte) error {
	for _, p := range parts {
		n, err := s.w.Write(p)
		s.at += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// WriteAt writes to the disk, at or behind the end of what was written before.
func (s *Stream) WriteAt(p []byte, at int64) (int, error) { return s.packer.writeAt(p, at) }

// put writes a grain that is compressed.
func (s *Stream) put(n int64, packed []byte) error {
	at, err := place(s.at)
	if err != nil {
		return err
	}
	*s.grains.entry(n) = at
	return s.write(packed)
}

// Close writes what is held back, and the tables. It does not close the file.
func (s *Stream) Close() error {
	if err := s.packer.close(); err != nil {
		return fmt.Errorf("writing the image's last grains: %w", err)
	}
	if err := s.finish(); err != nil {
		return fmt.Errorf("writing the image's tables: %w", err)
	}
	return nil
}

// Len is how long the image is, once it is closed.
func (s *Stream) Len() int64 { return s.at }

// Discard ends what is under way, instead of Close.
func (s *Stream) Discard() { s.packer.discard() }

// tablesBehind writes the tables, the directory and the footer.
func (s *Stream) tablesBehind() error {
	t := newTables(0, s.size)
	directory := make([]byte, t.first())
	for _, n := range slices.Sorted(maps.Keys(s.grains)) {
		at, err := place(s.at + sector)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(directory[4*n:], at)
		if err := s.write(marker(gtSize, markTable), tableBytes(s.grains[n])); err != nil {
			return err
		}
	}
	footer := s.header(s.at+sector, grain)
	return s.write(marker(t.first(), markDirectory), directory, marker(sector, markFooter), footer, marker(0, markEnd))
}

// tablesBefore writes the tables to their place before the grains, and the
// header last.
func (s *Stream) tablesBefore(f io.WriterAt, front tables) error {
	if err := s.write(marker(0, markEnd)); err != nil {
		return err
	}
	if _, err := f.WriteAt(front.directory(), front.at); err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(s.grains)) {
		if _, err := f.WriteAt(tableBytes(s.grains[n]), front.first()+n*gtSize); err != nil {
			return err
		}
	}
	begin := append(s.header(front.at, front.end()), s.options.descriptor(streamOptimized, s.size)...)
	_, err := f.WriteAt(begin, 0)
	return err
}

// marker says what follows, of so many bytes.
func marker(size int64, kind uint32) []byte {
	b := make([]byte, sector)
	binary.LittleEndian.PutUint64(b, uint64(size/sector))
	binary.LittleEndian.PutUint32(b[12:], kind)
	return b
}
