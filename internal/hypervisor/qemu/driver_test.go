//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/serial"
)

// tinySpec is a machine with a tiny kernel.
func tinySpec(t testing.TB, says string, ends []byte) *hypervisor.Spec {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in, stance")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &hypervisor.Spec{
		Name: "capstan", Dir: dir, Kernel: tinyKernel(t, says, ends), Memory: minMemory, CPUs: 1,
		Accel: "tcg", KernelLog: filepath.Join(dir, "kernel.log"),
	}
}

func start(t *testing.T, spec *hypervisor.Spec) hypervisor.Machine {
	t.Helper()
	realQEMU(t)
	m, err := New(Options{}).Start(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
		m.Wait()
	})
	return m
}

// bareQEMU is the QMP connection of a QEMU that is named "capstan".
func bareQEMU(t *testing.T) net.Conn {
	t.Helper()
	path := realQEMU(t)
	ours, theirs, err := socketPair("qmp")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-S", "-name", "capstan",
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control")
	cmd.ExtraFiles = []*os.File{theirs}
	proc, err := startProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		ours.Close()
		if err := proc.kill(); err != nil {
			t.Error(err)
		}
	})
	return ours
}

func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		says   string
		ends   []byte
		end    func(t *testing.T, m hypervisor.Machine) error
		cause  hypervisor.Cause
		detail string
	}{
		"reset": {ends: resets, cause: hypervisor.PoweredOff},
		"panic": {says: "Kernel panic - not syncing: no init\r\n---[ end Kernel panic - not syncing: no init ]---\r\n", ends: resets,
			cause: hypervisor.PoweredOff, detail: "kernel panic: no init"},
		"kill": {ends: halts, cause: hypervisor.Killed,
			end: func(t *testing.T, m hypervisor.Machine) error { return m.Kill() }},
		"kill of a stopped QEMU": {ends: halts, cause: hypervisor.Killed, end: func(t *testing.T, m hypervisor.Machine) error {
			if err := syscall.Kill(m.PID(), syscall.SIGSTOP); err != nil {
				return err
			}
			return m.Kill()
		}},
		"SIGKILL": {ends: halts, cause: hypervisor.Died, detail: "QEMU ended with signal: killed",
			end: func(t *testing.T, m hypervisor.Machine) error { return syscall.Kill(m.PID(), syscall.SIGKILL) }},
		"SIGTERM": {ends: halts, cause: hypervisor.Died, detail: "host-signal",
			end: func(t *testing.T, m hypervisor.Machine) error { return syscall.Kill(m.PID(), syscall.SIGTERM) }},
	} {
		t.Run(name, func(t *testing.T) {
			m := start(t, tinySpec(t, c.says, c.ends))
			if c.end != nil {
				if err := c.end(t, m); err != nil {
					t.Fatal(err)
				}
			}
			end := m.Wait()
			if end.Cause != c.cause || !strings.Contains(end.Detail, c.detail) || (c.detail == "") != (end.Detail == "") || strings.Contains(end.Detail, "\n") {
				t.Errorf("got %+v", end)
			}
			if rest, err := io.ReadAll(m.Console()); len(rest) > 0 || err != nil {
				t.Errorf("the console of a dead machine: %q, %v", rest, err)
			}
			if err := syscall.Kill(m.PID(), 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("QEMU is still there: %v", err)
			}
		})
	}
}

// A guest may end, and QEMU with it, before we come to read that it runs.
func TestEndsDuringHandshake(t *testing.T) {
	proc, err := startProcess(exec.Command("true"))
	if err != nil {
		t.Fatal(err)
	}
	<-proc.done
	c, err := inheritedChannels()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := net.FileConn(c.theirs[chanQMP])
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() { fakeQMP(theirs, 200) })
	defer server.Wait()
	defer c.close()
	m, err := New(Options{}).handshake(within(t), proc, c, &launch{spec: tinySpec(t, "", resets)})
	if err != nil {
		t.Fatal(err)
	}
	m.qmp.Disconnect()
}

func TestKernelLogOfQEMU(t *testing.T) {
	spec := tinySpec(t, strings.Repeat("0123456789abcdef\r\n", 500), resets)
	spec.KernelLog = filepath.Join(spec.Dir, "a, log")
	if err := os.WriteFile(spec.KernelLog, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, spec).Wait()
	got, err := os.ReadFile(spec.KernelLog)
	if err != nil || string(got) != "before\n"+strings.Repeat("0123456789abcdef\r\n", 500) {
		t.Errorf("%d bytes, %v: %.100q", len(got), err, got)
	}
}

func TestPowerButton(t *testing.T) {
	m := start(t, tinySpec(t, "", halts))
	if err := m.Powerdown(within(t)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("microvm's power button: %v", err)
	}
	spec := tinySpec(t, "", halts)
	for i := range 6 {
		path := filepath.Join(spec.Dir, strconv.Itoa(i))
		if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
		spec.Disks = append(spec.Disks, hypervisor.Disk{Path: path, Serial: strconv.Itoa(i), ReadOnly: true})
	}
	if err := start(t, spec).Powerdown(within(t)); err != nil {
		t.Errorf("q35's power button: %v", err)
	}
}

func TestPortsOfAnyNumber(t *testing.T) {
	spec := tinySpec(t, "", halts)
	any4 := netip.IPv4Unspecified()
	spec.Ports = []hypervisor.Port{{Guest: 80}, {Guest: 80}, {Host: any4, Guest: 80}, {Guest: 80, Protocol: "udp"}}
	taken := map[string]bool{}
	for _, p := range start(t, spec).Ports() {
		taken[fmt.Sprint(p.Protocol, p.HostPort)] = true
		if err, _ := bindError(p); !errors.Is(err, hypervisor.ErrPortInUse) || p.HostPort == 0 {
			t.Errorf("%v: %v", p, err)
		}
		if p.Protocol == "udp" {
			continue // nobody answers there
		}
		conn, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.HostPort).String())
		if err != nil {
			t.Errorf("%v: %v", p, err)
			continue
		}
		conn.Close()
	}
	if len(taken) != len(spec.Ports) {
		t.Errorf("took %v", taken)
	}
}

// BenchmarkStart is what a machine's start and end cost the host, without a
// guest that boots.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		spec := tinySpec(b, "", halts)
		m, err := New(Options{}).Start(b.Context(), spec)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Kill(); err != nil {
			b.Fatal(err)
		}
		m.Wait()
	}
}

// What cannot start says why in one line and leaves no process behind.
func TestStartRefusals(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	port := func(a net.Addr) hypervisor.Port {
		at := netip.MustParseAddrPort(a.String())
		return hypervisor.Port{Host: at.Addr(), HostPort: at.Port(), Guest: 80, Protocol: a.Network()}
	}
	shared := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(shared, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	inUse := []hypervisor.Disk{{Path: shared, Serial: "upper"}}
	holder := tinySpec(t, "", halts)
	holder.Disks = inUse
	start(t, holder)
	for name, c := range map[string]struct {
		change func(*hypervisor.Spec)
		want   string
		is     error
	}{
		"tcp port in use": {func(s *hypervisor.Spec) { s.Ports = []hypervisor.Port{port(tcp.Addr())} }, tcp.Addr().String() + "/tcp", hypervisor.ErrPortInUse},
		"udp port in use": {func(s *hypervisor.Spec) { s.Ports = []hypervisor.Port{{Guest: 1}, port(udp.LocalAddr())} }, udp.LocalAddr().String() + "/udp", hypervisor.ErrPortInUse},
		"port asked for twice": {func(s *hypervisor.Spec) {
			p := port(tcp.Addr())
			p.Host = netip.MustParseAddr("127.0.0.2")
			s.Ports = []hypervisor.Port{p, p}
		}, "127.0.0.2", hypervisor.ErrPortInUse},
		"foreign address": {func(s *hypervisor.Spec) {
			s.Ports = []hypervisor.Port{{Host: netip.MustParseAddr("192.0.2.1"), HostPort: 8080, Guest: 80}}
		}, "does not have that address", nil},
		"disk in use":         {func(s *hypervisor.Spec) { s.Disks = inUse }, "in use by another machine", nil},
		"too much memory":     {func(s *hypervisor.Spec) { s.Memory = 1 << 46 }, "too little memory", nil},
		"too many processors": {func(s *hypervisor.Spec) { s.CPUs = 100_000 }, "CPUs", nil},
		"no such accelerator": {func(s *hypervisor.Spec) { s.Accel = "warp" }, `accelerator "warp"`, nil},
		"share of a file":     {func(s *hypervisor.Spec) { s.Shares = []hypervisor.Share{{Tag: "s", Path: shared}} }, "not a directory", nil},
		"no directory":        {func(s *hypervisor.Spec) { s.Dir = "/absent" }, "/absent", nil},
	} {
		t.Run(name, func(t *testing.T) {
			spec := tinySpec(t, "", halts)
			c.change(spec)
			m, err := New(Options{}).Start(within(t), spec)
			if err == nil {
				m.Kill()
				t.Fatalf("started")
			}
			t.Log(err)
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || (c.is != nil && !errors.Is(err, c.is)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestStartOfOddQEMUs(t *testing.T) {
	for name, c := range map[string]struct {
		script, want string
		unavailable  bool
	}{
		"absent":       {"", "no such file", true},
		"old":          {"[ \"$1\" = --version ] && echo QEMU emulator version 5.2.0 && exit; echo bad option >&2; exit 1", "5.2.0 is too old", true},
		"no version":   {"exit 0", "which version", true},
		"says nothing": {"exit 3", "exit status 3", true},
		"hangs":        {"exec sleep 1000", "deadline", false},
		"closes":       {"[ \"$1\" = --version ] && echo QEMU emulator version 9.0.0 && exit; exec 3>&- 4>&- 5>&- 6>&-; echo dead >&2; exit 1", "dead", false},
		"no sandbox":   {"case \"$*\" in *obsolete=deny*) echo 'qemu: There is no option group sandbox' >&2; exit 1;; *--version*) echo QEMU emulator version 9.0.0;; *) echo second >&2; exit 1; esac", "second", false},
		"no microvm":   {"case \"$*\" in *obsolete=deny*) echo 'qemu: -sandbox on: seccomp support is disabled' >&2; exit 1;; *microvm,acpi*) echo 'qemu: unsupported machine type' >&2; exit 1;; *--version*) echo QEMU emulator version 9.0.0;; *) echo third >&2; exit 1; esac", "third", false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "qemu")
			if c.script != "" {
				if err := os.WriteFile(path, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			ctx := within(t)
			if name == "hangs" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
				defer cancel()
			}
			_, err := New(Options{Path: path}).Start(ctx, tinySpec(t, "", halts))
			var unavailable *hypervisor.UnavailableError
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &unavailable) != c.unavailable {
				t.Errorf("got %v", err)
			}
			if unavailable != nil && unavailable.Hint() == "" {
				t.Error("there is no way out")
			}
		})
	}
}

func TestVersion(t *testing.T) {
	real := realQEMU(t)
	path, version, err := New(Options{}).Version(within(t))
	if err != nil || path != real || version == "" {
		t.Errorf("%q, %q, %v", path, version, err)
	}
	if err := New(Options{Path: program}).Check(within(t)); err != nil {
		t.Error(err)
	}
	for output, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)": "7.2.22",
		"QEMU emulator version 10.0":                                     "10.0",
		"version 123456.0":                                               "",
		"":                                                               "",
	} {
		if got, _ := parseVersion(output); got != want {
			t.Errorf("%q: got %q", output, got)
		}
	}
}

// Where QEMU cannot inherit sockets it connects to named ones.
func TestNamedChannels(t *testing.T) {
	spec, err := complete(tinySpec(t, "", halts))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds what the first left
		c, err := namedChannels(spec.Dir)
		if err != nil {
			t.Fatal(err)
		}
		l := &launch{goos: "linux", accel: "tcg", spec: spec, channels: c.args()}
		if l.config, err = writeConfig(spec.Dir, spec.Guest); err != nil {
			t.Fatal(err)
		}
		proc, err := startProcess(exec.Command(realQEMU(t), l.args()...))
		if err != nil {
			t.Fatal(err)
		}
		d := New(Options{})
		m, err := d.handshake(within(t), proc, c, l)
		if err != nil {
			t.Fatal(err)
		}
		log, err := serial.OpenKernelLog("")
		if err != nil {
			t.Fatal(err)
		}
		m.run(t.Context(), log, c.ours[chanKernel])
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
		if end := m.Wait(); end.Cause != hypervisor.Killed {
			t.Errorf("got %+v", end)
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}
}
