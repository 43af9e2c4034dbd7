// Package guesttest boots the guest's kernel with a program of a test as its
// PID 1, to let Linux itself judge a file system. The program is made with
// package pid1.
package guesttest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capstan/internal/image/initramfs"
)

const bootTimeout = 10 * time.Minute // of one boot, under TCG on a busy machine

// Guest is a kernel and a program to boot.
type Guest struct{ kernel, initrd string }

// Boot is how to boot a guest.
type Boot struct {
	// Drives are virtio disks, /dev/vda first, each as QEMU's -drive has it:
	// "format=raw,file=NAME".
	Drives []string
	// Env is the program's environment, NAME=VALUE.
	Env []string
	// KillAt, if not empty, begins the line at which the guest is killed.
	KillAt string
}

// New builds the program in a directory.
func New(t testing.TB, source string) Guest {
	t.Helper()
	kernel := os.Getenv("CAPSTAN_GUEST")
	if kernel == "" {
		kernel = "../../../guest/build/guest-amd64"
	}
	if _, err := os.Stat(kernel); err != nil {
		t.Fatalf("%v: make the guest first, or set CAPSTAN_GUEST", err)
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatal("qemu-system-x86_64 is missing; it is in the package qemu-system-x86")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", source, err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(dir, "initrd")
	var archive initramfs.Archive
	archive.Directory("dev", 0o755)
	archive.File("test", 0o755, content)
	if err := os.WriteFile(initrd, archive.End(), 0o644); err != nil {
		t.Fatal(err)
	}
	return Guest{kernel, initrd}
}

// Boot boots and returns what the console showed. The program must pass, or be
// killed where that is asked for.
func (g Guest) Boot(t testing.TB, b Boot) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", g.args(b)...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var console strings.Builder
	var killed, passed bool
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		fmt.Fprintln(&console, line)
		passed = passed || line == "PASS"
		if b.KillAt != "" && !killed && strings.HasPrefix(line, b.KillAt) {
			killed = true
			cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	t.Logf("booted %s: %v", strings.Join(b.Env, " "), time.Since(start).Round(time.Millisecond))
	if ctx.Err() != nil {
		t.Fatalf("the guest did not end within %v:\n%s%s", bootTimeout, &console, &errors)
	}
	if b.KillAt != "" && !killed || b.KillAt == "" && (err != nil || !passed) {
		t.Fatalf("the guest ended with %v:\n%s%s", err, &console, &errors)
	}
	return console.String()
}

// args are QEMU's.
func (g Guest) args(b Boot) []string {
	args := []string{"-accel", "tcg", "-machine", "q35", "-m", "512M", "-nodefaults", "-no-user-config",
		"-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", g.kernel, "-initrd", g.initrd,
		"-append", "console=ttyS0 loglevel=4 panic=-1 rdinit=/test " + strings.Join(b.Env, " ")}
	for i, drive := range b.Drives {
		id := fmt.Sprint("d", i)
		args = append(args, "-drive", "if=none,id="+id+","+drive, "-device", "virtio-blk-pci,drive="+id)
	}
	return args
}
