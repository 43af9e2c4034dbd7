package serial

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

const (
	// kernelLogLimit is the size in bytes at which the kernel's log becomes
	// FILE.1: a guest can write to its console for ever.
	kernelLogLimit = 4 << 20
	// maxLogLine is how much of a line is searched for a panic.
	maxLogLine = 512
)

var panicMark = []byte("Kernel panic - not syncing: ")

// KernelLog writes the kernel's console to a file of bounded size and
// remembers a panic.
type KernelLog struct {
	path  string // "" writes nothing
	limit int64
	file  *os.File
	size  int64
	line  []byte
	cause string // of the panic
}

// OpenKernelLog appends to path, which only the user may read.
func OpenKernelLog(path string) (*KernelLog, error) {
	k := &KernelLog{path: path, limit: kernelLogLimit}
	if path == "" {
		return k, nil
	}
	return k, k.open()
}

func (k *KernelLog) open() error {
	f, err := os.OpenFile(k.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the kernel's log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("opening the kernel's log: %w", err)
	}
	k.file, k.size = f, info.Size()
	return nil
}

// Relay copies the console to its end and closes the file. A full disk costs the log, not the
// guest.
func (k *KernelLog) Relay(console io.Reader) {
	buf := make([]byte, 8<<10)
	for {
		n, err := console.Read(buf)
		k.scan(buf[:n])
		if k.file != nil && k.write(buf[:n]) != nil {
			k.Close()
		}
		if err != nil {
			k.scan([]byte("\n"))
			k.Close()
			return
		}
	}
}

func (k *KernelLog) write(b []byte) error {
	if k.size+int64(len(b)) > k.limit {
		if err := k.file.Close(); err != nil {
			return err
		}
		k.file = nil
		if err := os.Rename(k.path, k.path+".1"); err != nil {
			return err
		}
		if err := k.open(); err != nil {
			return err
		}
	}
	n, err := k.file.Write(b)
	k.size += int64(n)
	return err
}

// Close closes the file.
func (k *KernelLog) Close() {
	if k.file != nil {
		k.file.Close()
		k.file = nil
	}
}

// Panic is why the kernel has panicked, or "". It is for after Relay.
func (k *KernelLog) Panic() string { return k.cause }

// scan looks for the first panic.
func (k *KernelLog) scan(b []byte) {
	for len(b) > 0 && k.cause == "" {
		part, rest, ended := bytes.Cut(b, []byte("\n"))
		b = rest
		k.line = append(k.line, part[:min(len(part), maxLogLine-len(k.line))]...)
		if !ended {
			return
		}
		if _, cause, ok := bytes.Cut(k.line, panicMark); ok {
			k.cause = string(bytes.TrimSpace(cause))
		}
		k.line = k.line[:0]
	}
}
