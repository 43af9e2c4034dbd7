package disktest

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed testdata/boot.S
var osvBoot []byte

//go:embed testdata/osv.c
var osvKernel []byte

// OSv is a raw disk that stands in for OSv's loader: it boots to a program that
// writes its command line to the first serial port, and then, from the root
// file system that OSv would mount, the file that the line's last word names.
// As that of osv-loader, the disk ends where it happens to; a BIOS boots none
// that is much smaller.
func OSv(t testing.TB) []byte {
	t.Helper()
	boot := assemble(t, "0x7c00", "boot.S", osvBoot)
	kernel := assemble(t, "0", "osv.c", osvKernel)
	const at, most = 128 * 512, 32 << 10
	if len(boot) != 512 || len(kernel) > most {
		t.Fatalf("the boot sector has %d bytes, the program %d", len(boot), len(kernel))
	}
	disk := make([]byte, 1<<20+3*512)
	copy(disk, boot)
	copy(disk[512:], "/default.so")
	copy(disk[at:], kernel)
	return disk
}

// assemble makes real-mode code, to be run at an address, of a source.
func assemble(t testing.TB, address, name string, source []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	file, object, binary := filepath.Join(dir, name), filepath.Join(dir, "object"), filepath.Join(dir, "binary")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "script")
	layout := "SECTIONS { . = " + address + "; .text : { *(.text.start) *(.text .text.*) } .data : { *(.rodata .rodata.* .data .data.* .bss COMMON) } /DISCARD/ : { *(*) } }"
	if err := os.WriteFile(script, []byte(layout), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"gcc", "-m16", "-march=i386", "-Os", "-Wall", "-Werror", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-c", "-o", object, file},
		{"ld", "-m", "elf_i386", "-T", script, "--oformat", "binary", "-o", binary, object},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Fatalf("%s is missing: apt-get install build-essential", args[0])
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	b, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
