//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/image/disk/disktest"
)

// writeDisk writes a raw disk as qemu-img's arguments make it.
func writeDisk(t *testing.T, raw []byte, args ...string) string {
	t.Helper()
	need(t, "qemu-img", "qemu-utils")
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "disk")
	if err := os.WriteFile(from, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	args = append(append([]string{"convert", "-f", "raw"}, args...), from, to)
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return to
}

// TestDiskFormats: a disk of every format is imported and boots the same.
func TestDiskFormats(t *testing.T) {
	c := newCapstan(t)
	raw := disktest.BIOS("/old.so with arguments", false)
	for name, args := range map[string][]string{
		"raw":         {"-O", "raw"},
		"qcow2":       {"-O", "qcow2"},
		"compressed":  {"-c", "-O", "qcow2"},
		"vmdk":        {"-O", "vmdk"},
		"vmdk-stream": {"-O", "vmdk", "-o", "subformat=streamOptimized"},
		"vdi":         {"-O", "vdi"},
		"vhd":         {"-O", "vpc"},
		"vhd-fixed":   {"-O", "vpc", "-o", "subformat=fixed,force_size=on"},
	} {
		t.Run(name, func(t *testing.T) {
			c.must(t, "import", "formats/"+name, writeDisk(t, raw, args...))
			for range 2 { // with --rm, what it writes is gone
				if got := c.must(t, "run", "--rm", "formats/"+name); got != "/old.so with arguments\nstarts: 1\n" {
					t.Errorf("it says %q", got)
				}
			}
		})
	}
	c.checkNothingLeft(t)
}

// TestDiskInstance: the life of an instance of a disk image, whose writes stay.
func TestDiskInstance(t *testing.T) {
	c := newCapstan(t)
	c.must(t, "import", "-v", "0.9", "-c", "2015-04-01 12:00", "-d", "the old one", "-b", "make", "old/waits",
		writeDisk(t, disktest.BIOS("/waits.so", true), "-O", "qcow2"))
	var views []struct {
		Kind        string
		Annotations map[string]string
		Config      struct{ Format, Firmware, Cmdline string }
	}
	if err := json.Unmarshal([]byte(c.must(t, "inspect", "old/waits")), &views); err != nil || len(views) != 1 ||
		views[0].Kind != "disk" || views[0].Config.Format != "qcow2" || views[0].Config.Firmware != "bios" || views[0].Config.Cmdline != "/waits.so" ||
		views[0].Annotations["org.opencontainers.image.version"] != "0.9" || views[0].Annotations["org.opencontainers.image.created"] != "2015-04-01T12:00:00Z" {
		t.Errorf("inspect: %+v, %v", views, err)
	}
	c.must(t, "run", "-d", "--name", "old", "-m", "64M", "-p", "127.0.0.1:0:80", "old/waits")
	c.address(t, "old", 80)
	if got := c.must(t, "ps", "--format", "{{.Created.IsZero}}"); got != "false\n" {
		t.Errorf("it has no time of its making: %q", got)
	}
	c.must(t, "stop", "-t", grace, "old")
	if s, _ := c.ps(t, "old", "-a"); s.Status != "exited" || s.ExitCode != 0 || s.Reason != "" {
		t.Errorf("stopped by its power button, it is %+v", s)
	}
	c.must(t, "tag", "old/waits", "old/renamed:2")
	if r := c.run(t, "rmi", "old/waits"); r.status != 0 {
		t.Errorf("rmi of one of two names: %+v", r)
	}
	if r := c.run(t, "rmi", "old/renamed:2"); r.status == 0 {
		t.Error("rmi removed the image of an instance")
	}
	c.must(t, "rmi", "-f", "old/renamed:2")
	c.must(t, "prune")
	c.must(t, "start", "old") // its disk stays
	c.must(t, "kill", "old")
	if s, _ := c.ps(t, "old", "-a"); s.Status != "exited" || s.ExitCode != 137 {
		t.Errorf("killed, it is %+v", s)
	}
	if log := c.must(t, "logs", "old"); !strings.HasPrefix(log, "/waits.so\nstarts: 1\n") {
		t.Errorf("its log: %q", log)
	}
	for _, args := range [][]string{{"kill", "-s", "HUP", "old"}, {"stats", "old"}} {
		if r := c.run(t, args...); r.status == 0 || strings.Count(r.stderr, "\n") > 2 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	c.must(t, "rm", "old")
	c.checkNothingLeft(t)
}

// TestDiskCommandLine: the command line of an OSv disk is the image's, with
// variables before it, or another one; the image keeps its own.
func TestDiskCommandLine(t *testing.T) {
	c := newCapstan(t)
	c.must(t, "import", "line", writeDisk(t, disktest.BIOS("--verbose /old.so", false), "-O", "qcow2"))
	long := "/" + strings.Repeat("x", 32254)
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{nil, "--verbose /old.so"},
		{[]string{"-e", "A=b c", "-e", `D=\`}, `--env=A=b\ c --env=D=\\ --verbose /old.so`},
		{[]string{"--execute", "/new.so"}, "/new.so"},
		{[]string{"--execute", "/new.so", "-e", "A="}, "--env=A= /new.so"},
		{[]string{"--execute", long}, long},
		{nil, "--verbose /old.so"},
	} {
		got := c.must(t, append(append([]string{"run", "--rm"}, tt.flags...), "line")...)
		if got != tt.want+"\nstarts: 1\n" {
			t.Errorf("%.100q: it says %.100q", tt.flags, got)
		}
	}
	if r := c.run(t, "run", "--rm", "--execute", long+"x", "line"); r.status == 0 || !strings.Contains(r.stderr, "32255") {
		t.Errorf("a line that is too long: %+v", r)
	}
	c.checkNothingLeft(t)
}

// TestDiskUEFI: a disk that has no code for a BIOS boots by UEFI.
func TestDiskUEFI(t *testing.T) {
	c := newCapstan(t)
	c.must(t, "import", "uefi", writeDisk(t, disktest.UEFI(t, "ahoy from UEFI\n"), "-O", "vdi"))
	if got := c.must(t, "run", "--rm", "-m", "256M", "uefi"); !strings.Contains(got, "ahoy from UEFI\n") {
		t.Errorf("it says %.1000q", got)
	}
	c.checkNothingLeft(t)
}

func gzipped(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
