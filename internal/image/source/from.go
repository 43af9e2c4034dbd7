package source

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// UnknownError is returned by From for a file that is none of what it takes.
type UnknownError struct {
	Path  string
	Found string // what it seems to be; may be empty
}

func (e *UnknownError) Error() string {
	if e.Found != "" {
		return fmt.Sprintf("%s is %s: neither an ELF program, nor a directory, nor a tar", e.Path, e.Found)
	}
	return e.Path + " is neither an ELF program, nor a directory, nor a tar"
}

// Hint returns the way out.
func (e *UnknownError) Hint() string {
	return "--from takes a Linux program, a directory, or a .tar, .tar.gz or .tar.zst of a root file system"
}

// From plans a layer from a path on the host: a directory, an ELF program, or
// a tar, which may be compressed by gzip or zstd. What it is, is seen from the
// file itself, not from its name.
func From(ctx context.Context, name string, opts Options) (*Layer, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, cause(err))
	}
	switch {
	case info.IsDir():
		return FromDirectory(ctx, name, opts)
	case !info.Mode().IsRegular():
		return nil, &UnknownError{name, "a " + special(info.Mode())}
	}
	start, err := head(name)
	if err != nil {
		return nil, err
	}
	switch format(start) {
	case "elf", "script":
		return FromProgram(name, opts)
	case "tar", "gzip", "zstd":
		return FromTar(name, opts)
	case "":
		return nil, &UnknownError{Path: name}
	default:
		return nil, &UnknownError{name, format(start)}
	}
}

func special(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "FIFO"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return typeName(m)
}

// head returns the first block of a file.
func head(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, cause(err))
	}
	defer f.Close()
	start := make([]byte, 512)
	n, err := io.ReadFull(f, start)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("reading %s: %w", name, cause(err))
	}
	return start[:n], nil
}

// format tells what begins with some bytes: "elf", "script", "tar", "gzip" or
// "zstd", what else it is in words, or "" where that is unknown.
func format(start []byte) string {
	for _, f := range []struct {
		at          int
		magic, name string
	}{
		{0, "\x7fELF", "elf"},
		{0, "#!", "script"},
		{0, "\x1f\x8b", "gzip"},
		{0, "\x28\xb5\x2f\xfd", "zstd"},
		{257, "ustar", "tar"},
		{0, "\xfd7zXZ\x00", "compressed by xz"},
		{0, "BZh", "compressed by bzip2"},
		{0, "PK\x03\x04", "a zip or jar"},
		{0, "MZ", "a Windows program"},
		{0, "\xcf\xfa\xed\xfe", "a macOS program"},
		{0, "\xca\xfe\xba\xbe", "a macOS program or a Java class"},
		{0, "QFI\xfb", "a qcow2 disk"},
		{0, "!<arch>\n", "a Debian package or a static library"},
	} {
		if len(start) >= f.at+len(f.magic) && string(start[f.at:f.at+len(f.magic)]) == f.magic {
			return f.name
		}
	}
	if oldTar(start) {
		return "tar"
	}
	return ""
}

// oldTar reports whether a block is the header of a tar from before POSIX,
// which has no magic number but a checksum.
func oldTar(block []byte) bool {
	if len(block) < 512 || block[0] == 0 {
		return false
	}
	sum, want := 8*int(' '), 0
	for i, c := range block {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	for _, c := range block[148:156] {
		if c >= '0' && c <= '7' {
			want = want*8 + int(c-'0')
		}
	}
	return sum == want
}
