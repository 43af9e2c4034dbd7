//go:build linux

package qemu

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"capstan/internal/hypervisor"
	"capstan/internal/image/disk"
	"capstan/internal/image/disk/disktest"
	"capstan/internal/image/disk/qcow2"
)

// systemSpec is a machine with a disk that boots, made by qemu-img.
func systemSpec(t *testing.T, raw []byte, format disk.Format, options ...string) *hypervisor.Spec {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in, stance")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	source, base, overlay := filepath.Join(dir, "raw"), filepath.Join(dir, "base.disk"), filepath.Join(dir, "disk.qcow2")
	if err := os.WriteFile(source, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"convert", "-f", "raw", "-O", format.QEMU()}, options...)
	if out, err := exec.Command("qemu-img", append(args, source, base)...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	if err := os.Chmod(base, 0o400); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (qcow2.Overlay{Size: int64(len(raw)), Backing: "base.disk", Format: format.QEMU()}).Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return &hypervisor.Spec{
		Name: "system", Dir: dir, Memory: 64 << 20, CPUs: 1, Accel: "tcg", KernelLog: filepath.Join(dir, "kernel.log"),
		System: &hypervisor.System{Disk: overlay, Base: base, Format: format, Firmware: hypervisor.BIOS, Bus: hypervisor.Virtio},
	}
}

// TestSystem: a disk of any format boots from any bus, sees what it wrote the
// last time, and what is below its overlay stays as it was.
func TestSystem(t *testing.T) {
	for name, tt := range map[string]struct {
		format  disk.Format
		bus     hypervisor.Bus
		options []string
	}{
		"raw":          {disk.Raw, hypervisor.Virtio, nil},
		"qcow2":        {disk.QCOW2, hypervisor.Virtio, nil},
		"qcow2 of IDE": {disk.QCOW2, hypervisor.IDE, nil},
		"SATA":         {disk.QCOW2, hypervisor.SATA, nil},
		"compressed":   {disk.QCOW2, hypervisor.Virtio, []string{"-c"}},
		"vmdk":         {disk.VMDK, hypervisor.Virtio, nil},
		"vmdk stream":  {disk.VMDK, hypervisor.Virtio, []string{"-o", "subformat=streamOptimized"}},
		"vdi":          {disk.VDI, hypervisor.Virtio, nil},
		"vhd":          {disk.VHD, hypervisor.Virtio, nil},
	} {
		t.Run(name, func(t *testing.T) {
			spec := systemSpec(t, disktest.BIOS("ahoy from "+name, false), tt.format, tt.options...)
			spec.System.Bus = tt.bus
			before, err := os.ReadFile(spec.System.Base)
			if err != nil {
				t.Fatal(err)
			}
			for _, count := range []string{"1", "2"} {
				m := start(t, spec)
				said, err := io.ReadAll(m.Console())
				if err != nil || string(said) != "ahoy from "+name+"\nstarts: "+count+"\n" {
					t.Errorf("it says %q, %v", said, err)
				}
				if end := m.Wait(); end.Cause != hypervisor.PoweredOff {
					t.Errorf("it ended as %+v", end)
				}
				if m.Control() != nil {
					t.Error("it has a control channel")
				}
			}
			after, err := os.ReadFile(spec.System.Base)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("what is below the overlay has changed; %v", err)
			}
		})
	}
}

// TestSystemPowerButton: the button reaches a system that listens to it, and
// the console goes both ways.
func TestSystemPowerButton(t *testing.T) {
	m := start(t, systemSpec(t, disktest.BIOS("waiting", true), disk.QCOW2))
	lines := bufio.NewReader(m.Console())
	for _, want := range []string{"waiting\n", "starts: 1\n"} {
		if line, err := lines.ReadString('\n'); err != nil || line != want {
			t.Fatalf("it says %q, %v", line, err)
		}
	}
	if _, err := io.WriteString(m.Console(), "echo\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := lines.ReadString('\n'); err != nil || line != "echo\n" {
		t.Fatalf("it answers %q, %v", line, err)
	}
	if err := m.Powerdown(within(t)); err != nil {
		t.Fatal(err)
	}
	if end := m.Wait(); end.Cause != hypervisor.PoweredOff {
		t.Errorf("it ended as %+v", end)
	}
}

// TestSystemNamesOtherFiles: should a disk that names another file come as far
// as to the driver, the machine does not get to see the file.
func TestSystemNamesOtherFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, disktest.BIOS("the host's secret", false), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := systemSpec(t, disktest.BIOS("own", false), disk.QCOW2)
	if err := os.Remove(spec.System.Base); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", secret, spec.System.Base).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	m := start(t, spec)
	fds, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(m.PID()), "fd", "*"))
	if err != nil {
		t.Fatal(err)
	}
	opened := map[string]bool{}
	for _, fd := range fds {
		if file, err := os.Readlink(fd); err == nil {
			opened[file] = true
		}
	}
	if opened[secret] || !opened[spec.System.Base] {
		t.Errorf("QEMU has opened %v", opened)
	}
}

func TestSystemRefused(t *testing.T) {
	for name, change := range map[string]func(*hypervisor.System){
		"format":       func(s *hypervisor.System) { s.Format = "nbd" },
		"firmware":     func(s *hypervisor.System) { s.Firmware = "coreboot" },
		"bus":          func(s *hypervisor.System) { s.Bus = "mfm" },
		"IDE and UEFI": func(s *hypervisor.System) { s.Firmware, s.Bus = hypervisor.UEFI, hypervisor.IDE },
	} {
		s := hypervisor.System{Format: disk.Raw, Firmware: hypervisor.BIOS, Bus: hypervisor.Virtio}
		if err := checkSystem(&s); err != nil {
			t.Fatal(err)
		}
		if change(&s); checkSystem(&s) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	_, err := findUEFI([]firmware{{"/nowhere/code", "/nowhere/vars"}, {"code", "vars"}}, "/nowhere/bin/"+program)
	var missing *hypervisor.UnavailableError
	if !errors.As(err, &missing) || !strings.Contains(missing.Hint(), "ovmf") {
		t.Errorf("without firmware: %v", err)
	}
}

// TestSystemUEFI: a disk without code for a BIOS boots, again with the
// variables that the firmware left.
func TestSystemUEFI(t *testing.T) {
	spec := systemSpec(t, disktest.UEFI(t, "ahoy from UEFI\n"), disk.QCOW2)
	spec.System.Firmware, spec.Memory = hypervisor.UEFI, 256<<20
	for range 2 {
		m := start(t, spec)
		said, err := io.ReadAll(m.Console())
		if err != nil || !bytes.Contains(said, []byte("ahoy from UEFI\n")) {
			t.Errorf("it says %.1000q, %v", said, err)
		}
		if end := m.Wait(); end.Cause != hypervisor.PoweredOff {
			t.Errorf("it ended as %+v", end)
		}
	}
}
