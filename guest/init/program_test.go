//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		home string
		tty  bool
		want []string
	}{
		"defaults":       {nil, "", false, []string{"PATH=" + defaultPath, "HOSTNAME=h", "HOME=/"}},
		"terminal":       {nil, "/root", true, []string{"PATH=" + defaultPath, "HOSTNAME=h", "HOME=/root", "TERM=xterm"}},
		"image's own":    {[]string{"PATH=/x", "HOME=/y", "A="}, "/root", false, []string{"PATH=/x", "HOSTNAME=h", "HOME=/y", "A="}},
		"last one wins":  {[]string{"A=1", "B=2", "A=3"}, "", false, []string{"PATH=" + defaultPath, "HOSTNAME=h", "HOME=/", "A=3", "B=2"}},
		"not an entry":   {[]string{"A", "=B", "", "C=D=E"}, "", false, []string{"PATH=" + defaultPath, "HOSTNAME=h", "HOME=/", "C=D=E"}},
		"empty PATH set": {[]string{"PATH="}, "", false, []string{"PATH=", "HOSTNAME=h", "HOME=/"}},
	} {
		if got := environment(c.env, c.home, "h", c.tty); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestFindAndExplain(t *testing.T) {
	dir := t.TempDir()
	for name, f := range map[string]struct {
		mode os.FileMode
		body string
	}{
		"a/tool": {0o755, "x"}, "b/tool": {0o755, "x"}, "a/data": {0o644, "x"}, "b/late": {0o755, "x"}, "a/late": {0o644, "x"},
		"a/dir/x": {0o644, ""}, "a/script": {0o755, "#! /no/interp -a\n"}, "a/dos": {0o755, "#!/bin/sh\r\n"}, "a/elf": {0o755, string(tinyELF("/no/loader"))},
		"a/other": {0o755, string(foreignELF())},
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.body), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "a") + ":b"
	for name, want := range map[string]string{
		"tool": "a/tool", "late": "b/late", "/abs": "/abs", "./x": "x", "sub/x": "sub/x",
	} {
		if !filepath.IsAbs(want) {
			want = filepath.Join(dir, want)
		}
		if got, err := findProgram(name, path, dir); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]int{"nope": 127, "data": 126, "dir": 127} {
		_, err := findProgram(name, path, dir)
		if e := exitOf(err); e.Status != want || e.Reason == "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	for _, c := range []struct {
		name   string
		err    error
		status int
		text   string
	}{
		{"a/nope", unix.ENOENT, 127, "is not in the image"},
		{"a/tool/x", unix.ENOTDIR, 127, "is not in the image"},
		{"a/dir", unix.EACCES, 126, "is a directory"},
		{"a/data", unix.EACCES, 126, "is not executable"},
		{"a/tool", unix.EACCES, 126, "may not be executed by this user"},
		{"a/tool", unix.ENOEXEC, 126, "neither a program for Linux nor a script"},
		{"a/other", unix.ENOEXEC, 126, "is built for arm64"},
		{"a/script", unix.ENOENT, 127, "needs the interpreter /no/interp, which"},
		{"a/dos", unix.ENOENT, 127, `needs the interpreter "/bin/sh\r", which`},
		{"a/elf", unix.ENOENT, 127, "needs the interpreter /no/loader, which"},
		{"a/tool", unix.E2BIG, 126, "too long"},
		{"a/tool", unix.ENOMEM, 126, "cannot be executed: cannot allocate memory"},
	} {
		e := exitOf(explain(filepath.Join(dir, c.name), c.err))
		if e.Status != c.status || !strings.Contains(e.Reason, c.text) || strings.Contains(e.Reason, "\n") {
			t.Errorf("%s, %v: %+v", c.name, c.err, e)
		}
	}
	if e := exitOf(errors.New("x")); e.Status != statusFailed {
		t.Errorf("another error: %+v", e)
	}
}

func FuzzInterpreter(f *testing.F) {
	f.Add([]byte("#!/bin/sh -e\n"))
	f.Add(tinyELF("/lib64/ld-linux-x86-64.so.2"))
	f.Add(append([]byte("\x7fELF\x01\x02"), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, head []byte) {
		path, _ := interpreter(head)
		if len(path) > 4*len(head)+2 {
			t.Errorf("%q from %q", path, head)
		}
		elfMachine(head)
	})
}

func TestEndedAndSignals(t *testing.T) {
	for status, want := range map[unix.WaitStatus][2]int{0: {0, 0}, 42 << 8: {42, 0}, 255 << 8: {255, 0}, 11 | 0x80: {139, 11}, 9: {137, 9}} {
		if e := ended(status); e.Status != want[0] || e.Signal != want[1] {
			t.Errorf("%x: %+v", int(status), e)
		}
	}
	for text, want := range map[string]unix.Signal{
		"SIGTERM": 15, "term": 15, "15": 15, "SIGRTMIN+3": 37, "RTMAX-1": 63, "SIGRTMIN": 34, "64": 64,
		"": 0, "0": 0, "65": 0, "SIGRTMIN+99": 0, "SIGRTMIN3": 0, "NOPE": 0, "-9": 0, "SIGRTMIN-1": 0,
	} {
		if got, err := parseSignal(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	log := "3,1,1,-;Out of memory: Killed process 123 (app) total-vm:1kB\n"
	if !oomKilled(log, 123) || oomKilled(log, 12) || oomKilled("", 123) {
		t.Error("the kernel's log is misread")
	}
	if n := vmstat([]byte("oom_kill_x 3\noom_kill 2\n"), "oom_kill"); n != 2 {
		t.Errorf("vmstat: %d", n)
	}
}
