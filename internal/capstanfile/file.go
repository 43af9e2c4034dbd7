package capstanfile

import (
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	// Name is the name of the file that Capstan looks for.
	Name = "Capstanfile"

	// DefaultRootfs is the directory that is copied to / where the key
	// rootfs is not given and the directory exists.
	DefaultRootfs = "ROOTFS"

	// maxSize bounds a Capstanfile and a .capstanignore, in bytes.
	maxSize = 1 << 20
)

// File is a Capstanfile that has been read and checked.
type File struct {
	Name string // as the caller named it, for messages
	Raw  []byte // its text, for fingerprints

	Base    string            // image to build upon; "" builds on nothing
	Cmdline []string          // argv; nil leaves the base's command as it is; see CheckWords
	Build   string            // shell command to run before files are read; may be ""
	Rootfs  string            // directory for /; "" means DefaultRootfs where it exists
	Files   []Copy            // in the order of the file; later ones win
	Env     []string          // "NAME=value", in the order of the file
	Workdir string            // clean absolute guest path, or ""
	User    string            // "user" or "user:group", names or numbers, or ""
	Expose  []PortRange       // in the order of the file
	Volumes []string          // clean absolute guest paths
	Memory  int64             // bytes; 0 where not given
	CPUs    int               // 0 where not given
	Labels  map[string]string // nil where not given
	Arch    string            // "amd64", "arm64", or "" for the host's

	// CmdlineText is cmdline as it is written, which OSv reads by rules of its
	// own; "" for a list.
	CmdlineText string

	lines    map[string]int
	notWords *Error // what keeps CmdlineText from being words
}

// Copy is one entry of the key files.
type Copy struct {
	// Guest is the absolute path in the image. With Into it is a directory
	// that the source is put into under its own name.
	Guest string
	Into  bool
	// Host is the file, directory or glob to copy: relative to the build
	// directory, slash separated, every "&" already replaced.
	Host string
	Line int // where the entry stands
}

// Key names the entry in messages.
func (c Copy) Key() string { return "files " + c.Guest }

// CheckWords returns the mistake in a cmdline that is no list of words, as a
// Linux program needs one. It may be a command line of OSv's, which only shows
// when the base is known; without a base, Parse reports it.
func (f *File) CheckWords() error {
	if f.notWords != nil {
		return f.notWords
	}
	return nil
}

// Line returns the line of a top-level key, or 0 where it is not given.
func (f *File) Line(key string) int { return f.lines[key] }

// Mistake returns an error at a line of the file, for what only shows when
// the file is acted upon, as an absent source does. Line 0 is no line.
func (f *File) Mistake(line int, key, problem string) *Error {
	return &Error{File: f.Name, Line: line, Key: key, Problem: problem, acted: true}
}

// PortRange is one or more consecutive ports of one protocol.
type PortRange struct {
	First, Last int    // 1 to 65535, First ≤ Last
	Proto       string // "tcp" or "udp"
}

// Ports returns each port as the OCI image config's ExposedPorts writes it:
// "8080/tcp".
func (r PortRange) Ports() []string {
	ports := make([]string, 0, r.Last-r.First+1)
	for p := r.First; p <= r.Last; p++ {
		ports = append(ports, fmt.Sprintf("%d/%s", p, r.Proto))
	}
	return ports
}

// String returns the range as a Capstanfile writes it.
func (r PortRange) String() string {
	if r.First == r.Last {
		return fmt.Sprintf("%d/%s", r.First, r.Proto)
	}
	return fmt.Sprintf("%d-%d/%s", r.First, r.Last, r.Proto)
}

// Read reads and checks the Capstanfile at path. An absent file is an error
// that wraps fs.ErrNotExist.
func Read(path string) (*File, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// readBounded returns the text of a regular file of at most maxSize bytes.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{File: path, Problem: "not a regular file"}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, cause(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, cause(err))
	}
	return data, nil
}

// cause returns what is below an error of the os package, whose own text
// would repeat the path.
func cause(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	return err
}

// substitute replaces every "&" in a value of files by the base name of its
// key, as old Capstan did.
func substitute(value, key string) string {
	key = strings.TrimRight(key, "/")
	return strings.ReplaceAll(value, "&", key[strings.LastIndexByte(key, '/')+1:])
}
