//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const (
	statusNotExecutable = 126
	statusNotFound      = 127
)

// startError is why a program could not be started, with the status that a
// shell would give it.
type startError struct {
	status int
	reason string
}

func (e *startError) Error() string { return e.reason }

// exitOf is the report of a program that could not be started.
func exitOf(err error) api.Exit {
	var s *startError
	if errors.As(err, &s) {
		return api.Exit{Status: s.status, Reason: s.reason}
	}
	return api.Exit{Status: statusFailed, Reason: err.Error()}
}

// environment completes env as container engines do: PATH, HOME, HOSTNAME
// and, with a terminal, TERM. The last of several entries of a name counts.
func environment(env []string, home, hostname string, tty bool) []string {
	if home == "" {
		home = "/"
	}
	all := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname, "HOME=" + home}
	if tty {
		all = append(all, "TERM=xterm")
	}
	all = append(all, env...)
	at := make(map[string]int, len(all))
	kept := all[:0:0]
	for _, kv := range all {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue
		}
		if i, seen := at[name]; seen {
			kept[i] = kv
			continue
		}
		at[name] = len(kept)
		kept = append(kept, kv)
	}
	return kept
}

func getenv(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// findProgram returns the path of the program that name means, looked for in
// the directories of path unless it contains a slash. Both may be relative to
// workdir.
func findProgram(name, path, workdir string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(workdir, name)
		}
		return name, nil
	}
	var denied string
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(workdir, dir)
		}
		file := filepath.Join(dir, name)
		info, err := os.Stat(file)
		switch {
		case err != nil || info.IsDir():
		case info.Mode().Perm()&0o111 != 0:
			return file, nil
		case denied == "":
			denied = file
		}
	}
	if denied != "" {
		return "", &startError{statusNotExecutable, fmt.Sprintf("the program %s is not executable", denied)}
	}
	return "", &startError{statusNotFound, fmt.Sprintf("the program %q is not in the image (looked for in %s)", name, path)}
}

// explain turns the error of executing path into a sentence and a status.
func explain(path string, err error) error {
	info, serr := os.Stat(path)
	switch {
	case errors.Is(serr, fs.ErrNotExist) || errors.Is(serr, unix.ENOTDIR):
		return &startError{statusNotFound, fmt.Sprintf("the program %s is not in the image", path)}
	case serr == nil && info.IsDir():
		return &startError{statusNotExecutable, fmt.Sprintf("the program %s is a directory", path)}
	case serr == nil && info.Mode().Perm()&0o111 == 0:
		return &startError{statusNotExecutable, fmt.Sprintf("the program %s is not executable", path)}
	}
	head := readHead(path)
	switch {
	case errors.Is(err, unix.ENOENT):
		if interp, kind := interpreter(head); interp != "" {
			return &startError{statusNotFound, fmt.Sprintf("the %s %s needs the interpreter %s, which is not in the image", kind, path, interp)}
		}
	case errors.Is(err, unix.EACCES):
		return &startError{statusNotExecutable, fmt.Sprintf("the program %s may not be executed by this user", path)}
	case errors.Is(err, unix.ENOEXEC):
		if arch := elfMachine(head); arch != "" && arch != runtime.GOARCH {
			return &startError{statusNotExecutable, fmt.Sprintf("the program %s is built for %s, this machine is %s", path, arch, runtime.GOARCH)}
		}
		return &startError{statusNotExecutable, fmt.Sprintf("the program %s is neither a program for Linux nor a script that names its interpreter", path)}
	case errors.Is(err, unix.E2BIG):
		return &startError{statusNotExecutable, fmt.Sprintf("the arguments and the environment of %s are too long", path)}
	}
	return &startError{statusNotExecutable, fmt.Sprintf("the program %s cannot be executed: %v", path, err)}
}

// readHead reads the beginning of a file, where scripts and ELF files name
// their interpreters.
func readHead(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	head, _ := io.ReadAll(io.LimitReader(f, 64<<10)) // what could be read is enough
	return head
}

// interpreter returns the interpreter that a script or an ELF file names,
// and which of both it is.
func interpreter(head []byte) (path, kind string) {
	if line, ok := strings.CutPrefix(string(head[:min(len(head), 256)]), "#!"); ok {
		line, _, _ = strings.Cut(line, "\n")
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(fields) == 0 {
			return "", ""
		}
		if strings.HasSuffix(fields[0], "\r") {
			return fmt.Sprintf("%q", fields[0]), "script" // written on Windows
		}
		return fields[0], "script"
	}
	return elfInterpreter(head), "program"
}

// elfInterpreter returns the path in an ELF file's PT_INTERP segment (System
// V ABI, chapter 5), or "".
func elfInterpreter(head []byte) string {
	order, wide := elfClass(head)
	if order == nil {
		return ""
	}
	var phoff uint64
	var size, count uint16
	if wide {
		phoff, size, count = order.Uint64(head[0x20:]), order.Uint16(head[0x36:]), order.Uint16(head[0x38:])
	} else {
		phoff, size, count = uint64(order.Uint32(head[0x1c:])), order.Uint16(head[0x2a:]), order.Uint16(head[0x2c:])
	}
	for i := range uint64(count) {
		at := phoff + i*uint64(size)
		if at > uint64(len(head)) || uint64(len(head))-at < 0x38 {
			return ""
		}
		ph := head[at:]
		if order.Uint32(ph) != 3 { // PT_INTERP
			continue
		}
		var off, n uint64
		if wide {
			off, n = order.Uint64(ph[8:]), order.Uint64(ph[0x20:])
		} else {
			off, n = uint64(order.Uint32(ph[4:])), uint64(order.Uint32(ph[0x10:]))
		}
		if off > uint64(len(head)) || n > uint64(len(head))-off {
			return ""
		}
		path, _, _ := strings.Cut(string(head[off:off+n]), "\x00")
		return path
	}
	return ""
}

// elfMachine returns for which of Go's architectures an ELF file is built, or
// "another architecture", or "" if it is none.
func elfMachine(head []byte) string {
	order, _ := elfClass(head)
	if order == nil {
		return ""
	}
	switch order.Uint16(head[0x12:]) {
	case 3:
		return "386"
	case 40:
		return "arm"
	case 62:
		return "amd64"
	case 183:
		return "arm64"
	}
	return "another architecture"
}

// elfClass returns the byte order and the width of an ELF file; no order if
// it is none.
func elfClass(head []byte) (order binary.ByteOrder, wide bool) {
	if len(head) < 64 || string(head[:4]) != "\x7fELF" {
		return nil, false
	}
	order = binary.LittleEndian
	if head[5] == 2 {
		order = binary.BigEndian
	}
	return order, head[4] == 2
}
