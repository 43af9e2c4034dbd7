package serial

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKernelLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernel.log")
	k, err := OpenKernelLog(path)
	if err != nil {
		t.Fatal(err)
	}
	k.limit = 100
	panicked := "Kernel panic - not syncing: first\nKernel panic - not syncing: second\n"
	k.Relay(strings.NewReader(strings.Repeat("y", 2000) + "\n" + panicked + strings.Repeat("x", 20_000)))
	if k.cause != "first" {
		t.Errorf("the panic was %q", k.cause)
	}
	total := int64(0)
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 2 || total > 2*8<<10 {
		t.Errorf("%d bytes in %q, %v", total, files, err)
	}
}

func TestKernelLogOnFullDisk(t *testing.T) {
	k, err := OpenKernelLog("/dev/full")
	if err != nil {
		t.Fatal(err)
	}
	k.Relay(strings.NewReader("Kernel panic - not syncing: it"))
	if k.cause != "it" {
		t.Errorf("the panic was %q", k.cause)
	}
}
