//go:build e2e && linux && amd64

package qemu

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/drivertest"
	"capstan/internal/image/initramfs"
)

// guestKernel is the guest that boots; of it only the kernel is used here.
func guestKernel(t *testing.T) string {
	t.Helper()
	kernel := os.Getenv("CAPSTAN_GUEST")
	if kernel == "" {
		kernel = "../../../guest/build/guest-amd64"
	}
	kernel, err := filepath.Abs(kernel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kernel); err != nil {
		t.Fatalf("%v: make the guest first, or set CAPSTAN_GUEST", err)
	}
	return kernel
}

// withTestGuest returns a QEMU that has the suite's guest as its PID 1: a
// second archive behind the driver's config replaces /init.
func withTestGuest(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "guest")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "../drivertest/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+guestArch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "guest.cpio")
	var with initramfs.Archive
	with.File("init", 0o755, content)
	if err := os.WriteFile(archive, with.End(), 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\ncat '%s' >> %s && exec '%s' \"$@\"\n", archive, configFile, realQEMU(t))
	wrapper := filepath.Join(dir, "qemu")
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return wrapper
}

// extractELF unpacks the ELF file in a bzImage: a zstd frame and its size in
// four bytes (Linux's Documentation/arch/x86/boot.rst, "payload_offset").
func extractELF(t *testing.T, kernel string) string {
	t.Helper()
	image, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	word := func(at int) int { return int(binary.LittleEndian.Uint32(image[at:])) }
	payload := image[(int(image[0x1f1])+1)*512+word(0x248):][:word(0x24c)]
	unpacker, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpacker.Close()
	content, err := unpacker.DecodeAll(payload[:len(payload)-4], nil)
	if err != nil {
		t.Fatalf("unpacking %s: %v", kernel, err)
	}
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConformance(t *testing.T) {
	kernel := guestKernel(t)
	path := withTestGuest(t)
	for _, name := range []string{"bzImage", "ELF"} {
		t.Run(name, func(t *testing.T) {
			decompressed := ""
			if name == "ELF" {
				decompressed = extractELF(t, kernel)
			}
			drivertest.Run(t, New(Options{Path: path}), func(t *testing.T) *hypervisor.Spec {
				dir := t.TempDir()
				return &hypervisor.Spec{
					Name: "conformance", Dir: dir, Kernel: kernel, Decompressed: decompressed,
					Memory: 96 << 20, CPUs: 1, Accel: "tcg", KernelLog: filepath.Join(dir, "kernel.log"),
				}
			}, nil)
		})
	}
}
