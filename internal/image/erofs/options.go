package erofs

import (
	"errors"
	"fmt"
	"time"
)

// Errors that tell a caller what was wrong with an entry. They are wrapped
// with the entry's name. None of them ends the Writer.
var (
	// ErrName is a name that cannot stand in the tree: with "..", with a NUL
	// byte, or the root where the root cannot stand.
	ErrName = errors.New("invalid name")
	// ErrEntry is an entry that EROFS cannot hold.
	ErrEntry = errors.New("entry cannot be represented")
	// ErrLoop is a path that leads through too many symbolic links.
	ErrLoop = errors.New("too many levels of symbolic links")
	// ErrClosed is a call after Close.
	ErrClosed = errors.New("writer is closed")
)

// LimitError is input that exceeds a bound of [Options] or of the format.
type LimitError struct {
	What  string // what was counted
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("more than %d %s", e.Limit, e.What)
}

// Options are fixed when the image is started. The zero value is usable:
// a bound that is zero stands for its default.
type Options struct {
	// UUID is written to the superblock as it is.
	UUID [16]byte
	// BuildTime is written to the superblock; the zero Time is 1970.
	BuildTime time.Time

	// MaxEntries bounds the entries ever added, those that were replaced and
	// the directories made for missing parents included. Default 2 million.
	MaxEntries int64
	// MaxMetadata bounds the memory, in bytes, that the tree takes until
	// Close. It is an estimate of the writer's own. Default 512 MiB.
	MaxMetadata int64
	// MaxContent bounds the sum of all regular files' sizes, in bytes, holes
	// and replaced files included: with a sparse file, a few bytes of a tar
	// can ask for exabytes. Default 512 GiB.
	MaxContent int64
	// MaxXattrs bounds one entry's attributes, names and values, in bytes.
	// Default 64 KiB, as Linux.
	MaxXattrs int64
	// MaxDepth bounds how many directories lie above an entry. Default 512.
	MaxDepth int64
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *int64
		value int64
	}{
		{&o.MaxEntries, 2 << 20},
		{&o.MaxMetadata, 512 << 20},
		{&o.MaxContent, 512 << 30},
		{&o.MaxXattrs, 64 << 10},
		{&o.MaxDepth, 512},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return o
}
