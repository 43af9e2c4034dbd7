//go:build linux

// Package bench measures what a user waits for. Nothing here asserts a time:
// the figures are printed beside what they are held against.
//
//	make bench
//
// It needs bin/capstan, which make builds, or CAPSTAN_BIN.
package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkBoot runs, in turn, a static hello by capstan, and the same program
// as PID 1 of the guest's kernel and of Debian's stock cloud kernel, in the
// same QEMU without acceleration. It reports medians, in milliseconds.
func BenchmarkBoot(b *testing.B) {
	s := newScene(b)
	var line, before, after, own, ours, debian, ratio []float64
	for range b.N {
		r := s.run(b)
		line, before, after = append(line, r.line), append(before, r.before), append(after, r.after)
		own = append(own, r.before+r.after)
		o, d := s.kernel(b, s.ours), s.kernel(b, s.debian)
		ours, debian, ratio = append(ours, o), append(debian, d), append(ratio, o/d)
	}
	b.ReportMetric(0, "ns/op") // which would be the sum of all of these
	for _, m := range []struct {
		unit   string
		values []float64
	}{
		{"ms-run-to-first-line(limit:1000)", line},
		{"ms-cli-before-qemu", before},
		{"ms-cli-after-qemu", after},
		{"ms-cli-own-share(limit:60)", own},
		{"ms-guest-kernel", ours},
		{"ms-debian-cloud-kernel", debian},
		{"guest/debian(limit:0.6)", ratio},
	} {
		slices.Sort(m.values)
		b.ReportMetric(m.values[len(m.values)/2], m.unit)
	}
}

// scene is what the runs have in common.
type scene struct {
	capstan, root string
	started       string // where the wrapper of QEMU writes when and as which process
	initrd        string // hello as PID 1
	ours, debian  string // kernels
}

// wrapper takes QEMU's place, and tells when it was started.
const wrapper = "#!/bin/bash\necho \"$EPOCHREALTIME $$\" >'%s.tmp' && mv '%[1]s.tmp' '%[1]s'\nexec '%s' \"$@\"\n"

func newScene(b *testing.B) *scene {
	dir := b.TempDir()
	s := &scene{capstan: capstanBinary(b), root: filepath.Join(dir, "root"), started: filepath.Join(dir, "started")}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		b.Fatal(err)
	}
	hello := filepath.Join(dir, "init")
	output(b, exec.Command("gcc", "-O2", "-static", "-s", "-o", hello, filepath.Join("testdata", "hello.c")))
	archive := exec.Command("cpio", "-o", "-H", "newc", "--quiet")
	archive.Dir, archive.Stdin = dir, strings.NewReader("init\n")
	s.initrd = filepath.Join(dir, "initrd")
	write(b, s.initrd, output(b, archive), 0o600)
	write(b, filepath.Join(dir, "qemu"), fmt.Appendf(nil, wrapper, s.started, qemu), 0o700)
	if err := os.Mkdir(s.root, 0o700); err != nil {
		b.Fatal(err)
	}
	write(b, filepath.Join(s.root, "config.yaml"), fmt.Appendf(nil, "qemu_path: %s\naccel: tcg\n", filepath.Join(dir, "qemu")), 0o600)
	output(b, s.command("build", "--from", hello, "hello"))
	output(b, s.command("run", "--rm", "-m", "48M", "hello")) // what happens once is not counted
	found, err := filepath.Glob(filepath.Join(s.root, "guest", "*", "vmlinux"))
	if err != nil || len(found) != 1 {
		b.Fatalf("unpacked guests: %v, %v", found, err)
	}
	s.ours = found[0]
	s.debian = strings.TrimSpace(string(output(b, exec.Command(filepath.Join("..", "..", "scripts", "debian-kernel.sh")))))
	return s
}

func (s *scene) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.capstan, args...)
	cmd.Env = append(os.Environ(), "CAPSTAN_ROOT="+s.root)
	return cmd
}

// timing is one run of hello, in milliseconds.
type timing struct {
	line   float64 // from the command to hello's line
	before float64 // from the command to QEMU's start
	after  float64 // from QEMU's end to the command's
}

func (s *scene) run(b *testing.B) timing {
	if err := os.RemoveAll(s.started); err != nil {
		b.Fatal(err)
	}
	cmd := s.command("run", "--rm", "-m", "48M", "hello")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan time.Time, 1)
	started := make(chan time.Time, 1)
	go func() {
		at, process := s.qemu()
		started <- at
		ended <- waitFor(process)
	}()
	first := firstLine(b, out, &stderr)
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%v\n%s", err, &stderr)
	}
	gone := time.Now()
	return timing{
		line:   milliseconds(first.Sub(began)),
		before: milliseconds((<-started).Sub(began)),
		after:  milliseconds(gone.Sub(<-ended)),
	}
}

// qemu waits until QEMU is started, and returns when it was and its process.
func (s *scene) qemu() (time.Time, int) {
	for {
		doc, err := os.ReadFile(s.started)
		if err != nil {
			time.Sleep(time.Millisecond) // the wrapper renames it into place
			continue
		}
		when, pid, _ := strings.Cut(strings.TrimSpace(string(doc)), " ")
		sec, usec, _ := strings.Cut(when, ".")
		n, _ := strconv.ParseInt(sec+usec, 10, 64)
		process, _ := strconv.Atoi(pid)
		return time.UnixMicro(n), process
	}
}

// waitFor waits for a process's end, of which it is not the parent.
func waitFor(process int) time.Time {
	fd, err := unix.PidfdOpen(process, 0)
	if err != nil {
		return time.Time{} // a figure in decades is a sign that something is wrong
	}
	defer unix.Close(fd)
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != unix.EINTR {
			return time.Now()
		}
	}
}

// kernel boots hello as PID 1 of a kernel and returns the milliseconds from
// QEMU's start to its line. Machine and arguments are the product's.
func (s *scene) kernel(b *testing.B, kernel string) float64 {
	cmd := exec.Command("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "128M",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "microvm,acpi=off,pit=on,pic=on,rtc=on,usb=off,graphics=off",
		"-kernel", kernel, "-initrd", s.initrd, "-serial", "stdio",
		"-append", "console=ttyS0 panic=-1 reboot=t noreplace-smp no_timer_check tsc=reliable quiet loglevel=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	first := firstLine(b, out, &stderr)
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%v\n%s", err, &stderr)
	}
	return milliseconds(first.Sub(began))
}

// firstLine reads r to its end, and returns when hello's line arrived.
func firstLine(b *testing.B, r io.Reader, stderr fmt.Stringer) time.Time {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "hello" {
			at := time.Now()
			io.Copy(io.Discard, r)
			return at
		}
	}
	b.Fatalf("hello never said so\n%s", stderr)
	return time.Time{}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func write(b *testing.B, path string, content []byte, mode os.FileMode) {
	if err := os.WriteFile(path, content, mode); err != nil {
		b.Fatal(err)
	}
}

func output(b *testing.B, cmd *exec.Cmd) []byte {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	return out
}
