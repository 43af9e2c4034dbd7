// Package drivertest is what every hypervisor driver must pass: a machine's
// life on the real platform, seen through package hypervisor alone. What a
// driver declares that it cannot do must be refused.
//
// The guest is drivertest/guest, a PID 1 of its own. It sets its network up,
// echoes TCP and UDP on its port 80 and what comes on the control channel,
// mounts the shares and leaves a file "from-guest" in each, says which boot this
// is where it has a writable partition, says "ready: " and its disks on the
// console, answers each line with "echo: " and that line, and ends at "quit" or
// when the power button is pressed. With the argument "panic" it makes the kernel
// panic instead.
package drivertest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// timeout bounds each machine's life, under emulation on a busy host.
const timeout = 5 * time.Minute

// Run runs the suite. makeSpec gives a spec that boots the guest, with a
// directory of its own and without ports, shares and disks; the suite adds
// those that it needs. kernel is Kernel's, for drivers that need a disk to boot
// from.
func Run(t *testing.T, driver hypervisor.Driver, makeSpec func(t *testing.T) *hypervisor.Spec, kernel []byte) {
	s := suite{driver, makeSpec, kernel}
	tests := map[string]func(*testing.T){
		"console":       s.console,
		"control":       s.control,
		"kill":          s.kill,
		"power button":  s.powerButton,
		"context":       s.context,
		"panic":         s.panics,
		"missing files": s.missingFiles,
		"refusals":      s.refusals,
	}
	can := driver.Capabilities()
	if can.Disk != "" {
		tests["kept"] = s.kept
	} else {
		tests["disks"], tests["many devices"] = s.disks, s.manyDevices
	}
	if can.Ports {
		tests["ports"], tests["port in use"] = s.ports, s.portInUse
	}
	if can.Shares {
		tests["shares"] = s.shares
	}
	if _, ok := driver.(hypervisor.Cleaner); ok {
		tests["left behind"] = s.leftBehind
	}
	for name, test := range tests {
		t.Run(name, test)
	}
}

type suite struct {
	driver   hypervisor.Driver
	makeSpec func(t *testing.T) *hypervisor.Spec
	kernel   []byte
}

// boot starts a machine, with the disk that it needs.
func (s suite) boot(t *testing.T, ctx context.Context, spec *hypervisor.Spec) (hypervisor.Machine, error) {
	t.Helper()
	if can := s.driver.Capabilities(); can.Disk != "" && spec.Bootable == "" {
		spec.Bootable = filepath.Join(spec.Dir, "disk."+string(can.Disk))
		spec.Guest.Version, spec.Guest.Console, spec.Guest.Control = api.Version, can.Console, can.Control
		s.compose(t, spec)
	}
	return s.driver.Start(ctx, spec)
}

// running is a machine whose guest is ready.
type running struct {
	hypervisor.Machine
	lines *bufio.Reader
	log   string // the kernel's
	first string // the line that says "ready"
	said  []string
}

// start boots spec and waits until the guest is ready.
func (s suite) start(t *testing.T, ctx context.Context, spec *hypervisor.Spec) *running {
	t.Helper()
	m, err := s.boot(t, ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(timeout, func() { m.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
		m.Wait()
	})
	r := &running{Machine: m, lines: bufio.NewReader(m.Console()), log: spec.KernelLog}
	for !strings.HasPrefix(r.first, "ready: ") {
		r.first = r.line(t)
		r.said = append(r.said, r.first)
	}
	return r
}

func (r *running) line(t *testing.T) string {
	t.Helper()
	line, err := r.lines.ReadString('\n')
	if err != nil {
		end := r.Wait()
		log, _ := os.ReadFile(r.log)
		t.Fatalf("reading the console: %v after %q; the machine %+v; its kernel %q", err, line, end, log)
	}
	return strings.TrimSuffix(line, "\n")
}

func (r *running) say(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(r.Console(), line+"\n"); err != nil {
		t.Fatal(err)
	}
}

// quit ends the guest in order.
func (r *running) quit(t *testing.T) {
	t.Helper()
	r.say(t, "quit")
	r.ended(t)
}

// ended waits for the end of a guest that ends in order.
func (r *running) ended(t *testing.T) {
	t.Helper()
	rest, err := io.ReadAll(r.lines)
	if err != nil {
		t.Errorf("reading the console to its end: %v", err)
	}
	if _, exit, ok := api.ParseExit(rest); !ok || exit.Status != 0 {
		t.Errorf("the console ended with %q", rest)
	}
	if end := r.Wait(); end.Cause != hypervisor.PoweredOff || end.Detail != "" {
		t.Errorf("the machine's end is %+v", end)
	}
}

func (s suite) console(t *testing.T) {
	r := s.start(t, t.Context(), s.makeSpec(t))
	long := strings.Repeat("x", 50_000)
	for _, line := range []string{"one", "", long, "two"} {
		r.say(t, line)
		if got := r.line(t); got != "echo: "+line {
			t.Errorf("said %.40q, got %.40q (%d bytes)", line, got, len(got))
		}
	}
	r.quit(t)
	if end := r.Wait(); end.Cause != hypervisor.PoweredOff {
		t.Errorf("a second Wait: %+v", end)
	}
	if err := r.Kill(); err != nil {
		t.Errorf("killing a dead machine: %v", err)
	}
}

func (s suite) control(t *testing.T) {
	r := s.start(t, t.Context(), s.makeSpec(t))
	echo(t, r.Control())
	r.quit(t)
	if n, err := r.Control().Read(make([]byte, 1)); err == nil {
		t.Errorf("the control channel of a dead machine gave %d bytes", n)
	}
	if err := r.Control().Close(); err != nil {
		t.Error(err)
	}
}

// echo sends 200,000 bytes and wants them back.
func echo(t *testing.T, conn io.ReadWriter) {
	t.Helper()
	want := strings.Repeat("0123456789", 20_000)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, want)
		sent <- err
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Errorf("echo of %d bytes differs, or %v", len(want), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

func (s suite) ports(t *testing.T) {
	spec := s.makeSpec(t)
	fixed := freePort(t)
	spec.Ports = []hypervisor.Port{
		{Host: loopback, Guest: 80, Protocol: "tcp"},
		{Host: loopback, HostPort: fixed, Guest: 80, Protocol: "tcp"},
	}
	if s.driver.Capabilities().UDP {
		spec.Ports = append(spec.Ports, hypervisor.Port{Host: loopback, Guest: 80, Protocol: "udp"})
	}
	r := s.start(t, t.Context(), spec)
	ports := r.Ports()
	if len(ports) != len(spec.Ports) || ports[1].HostPort != fixed {
		t.Fatalf("asked for %v, got %v", spec.Ports, ports)
	}
	for _, p := range ports {
		conn, err := net.DialTimeout(p.Protocol, netip.AddrPortFrom(p.Host, p.HostPort).String(), timeout)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
			t.Fatal(err)
		}
		if p.Protocol == "tcp" {
			echo(t, conn)
			continue
		}
		if _, err := io.WriteString(conn, "datagram"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		if n, err := conn.Read(got); err != nil || string(got[:n]) != "datagram" {
			t.Errorf("%s: got %q, %v", p, got[:n], err)
		}
	}
	r.quit(t)
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func (s suite) portInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).AddrPort()
	spec := s.makeSpec(t)
	spec.Ports = []hypervisor.Port{{Host: taken.Addr(), HostPort: taken.Port(), Guest: 80, Protocol: "tcp"}}
	_, err = s.boot(t, t.Context(), spec)
	if !errors.Is(err, hypervisor.ErrPortInUse) || !strings.Contains(err.Error(), taken.String()) {
		t.Errorf("got %v", err)
	}
}

func (s suite) disks(t *testing.T) {
	spec := s.makeSpec(t)
	spec.Disks = []hypervisor.Disk{
		{Path: disk(t, "a, b.img"), Serial: "root", ReadOnly: true},
		{Path: disk(t, "upper.img"), Serial: "upper"},
	}
	r := s.start(t, t.Context(), spec)
	for _, want := range []string{"root:ro", "upper:rw"} {
		if !strings.Contains(r.first, want) {
			t.Errorf("no %s in %q", want, r.first)
		}
	}
	r.quit(t)
}

// disk makes an empty one of 1 MiB.
func disk(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s suite) shares(t *testing.T) {
	spec := s.makeSpec(t)
	for _, tag := range []string{"open", "closed"} {
		dir := filepath.Join(t.TempDir(), "with, comma")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "from-host"), []byte(tag), 0o644); err != nil {
			t.Fatal(err)
		}
		spec.Shares = append(spec.Shares, hypervisor.Share{Tag: tag, Path: dir, ReadOnly: tag == "closed"})
		spec.Guest.Mounts = append(spec.Guest.Mounts, api.Mount{Type: "9p", Source: tag, Target: "/mnt/" + tag, ReadOnly: tag == "closed"})
	}
	r := s.start(t, t.Context(), spec)
	want := `share open: "open" <nil>|wrote open: true|share closed: "closed" <nil>|wrote closed: false`
	if got := strings.Join(r.said[:len(r.said)-1], "|"); got != want {
		t.Errorf("the guest said %q", got)
	}
	r.quit(t)
	info, err := os.Stat(filepath.Join(spec.Shares[0].Path, "from-guest"))
	if err != nil || info.Mode() != 0o640 || info.Size() != 12 {
		t.Errorf("the guest's file is %v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(spec.Shares[1].Path, "from-guest")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a read-only share was written to: %v", err)
	}
}

func (s suite) manyDevices(t *testing.T) {
	spec := s.makeSpec(t)
	for _, serial := range strings.Fields("a b c d e f g") {
		spec.Disks = append(spec.Disks, hypervisor.Disk{Path: disk(t, serial), Serial: serial})
	}
	r := s.start(t, t.Context(), spec)
	if got := len(strings.Fields(r.first)) - 1; got != len(spec.Disks) {
		t.Errorf("%d disks in %q", got, r.first)
	}
	r.quit(t)
}

func (s suite) kill(t *testing.T) {
	r := s.start(t, t.Context(), s.makeSpec(t))
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if end := r.Wait(); end.Cause != hypervisor.Killed {
		t.Errorf("the machine's end is %+v", end)
	}
	if rest, err := io.ReadAll(r.lines); err != nil {
		t.Errorf("a dead machine's console: %q, %v", rest, err)
	}
}

// powerButton: the guest hears of it, where the machine has one.
func (s suite) powerButton(t *testing.T) {
	r := s.start(t, t.Context(), s.makeSpec(t))
	err := r.Powerdown(t.Context())
	if errors.Is(err, errors.ErrUnsupported) {
		r.quit(t)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	r.ended(t)
}

func (s suite) context(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := s.start(t, ctx, s.makeSpec(t))
	cancel()
	if end := r.Wait(); end.Cause != hypervisor.Killed {
		t.Errorf("the machine's end is %+v", end)
	}
	if _, err := s.boot(t, ctx, s.makeSpec(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("starting with an ended context: %v", err)
	}
}

func (s suite) panics(t *testing.T) {
	spec := s.makeSpec(t)
	spec.Guest.Args = []string{"panic"}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	m, err := s.boot(t, ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if end := m.Wait(); end.Cause != hypervisor.PoweredOff || !strings.Contains(end.Detail, "panic") {
		t.Errorf("the machine's end is %+v", end)
	}
	if err := ctx.Err(); err != nil {
		t.Errorf("the machine ran on after the panic: %v", err)
	}
	log, err := os.ReadFile(spec.KernelLog)
	if err != nil || !strings.Contains(string(log), "Kernel panic") {
		t.Errorf("the kernel's log is %q, %v", log, err)
	}
}

func (s suite) missingFiles(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	changes := map[string]func(*hypervisor.Spec){
		"kernel": func(s *hypervisor.Spec) { s.Kernel, s.Decompressed = absent, "" },
		"disk":   func(s *hypervisor.Spec) { s.Disks = []hypervisor.Disk{{Path: absent, Serial: "root"}} },
		"share":  func(s *hypervisor.Spec) { s.Shares = []hypervisor.Share{{Path: absent, Tag: "share"}} },
	}
	if s.driver.Capabilities().Disk != "" {
		changes = map[string]func(*hypervisor.Spec){"disk": func(s *hypervisor.Spec) { s.Bootable = absent }}
	}
	for name, change := range changes {
		spec := s.makeSpec(t)
		change(spec)
		if _, err := s.driver.Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), absent) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// kept: what is written on the disk is there at the next start.
func (s suite) kept(t *testing.T) {
	spec := s.makeSpec(t)
	spec.Guest.Root.Upper = "partlabel:capstan-data"
	for _, want := range []string{"boot 1", "boot 2"} {
		r := s.start(t, t.Context(), spec)
		if !slices.Contains(r.said, want) {
			t.Errorf("no %q in %q", want, r.said)
		}
		r.quit(t)
	}
}

// leftBehind: another process than the machine's owner ends it, and it can be
// started again.
func (s suite) leftBehind(t *testing.T) {
	spec := s.makeSpec(t)
	r := s.start(t, t.Context(), spec)
	cleaner := s.driver.(hypervisor.Cleaner)
	for range 2 { // the second time there is nothing to do
		if err := cleaner.Clean(t.Context(), spec.Dir); err != nil {
			t.Fatal(err)
		}
	}
	if rest, err := io.ReadAll(r.lines); err != nil {
		t.Errorf("the console of a machine that was ended: %q, %v", rest, err)
	}
	r.Wait()
	s.start(t, t.Context(), spec).quit(t)
}

// refusals: what the driver says that it cannot do is refused, in a sentence
// with a way out.
func (s suite) refusals(t *testing.T) {
	can := s.driver.Capabilities()
	port := func(host, protocol string) []hypervisor.Port {
		return []hypervisor.Port{{Host: netip.MustParseAddr(host), HostPort: 1, Guest: 1, Protocol: protocol}}
	}
	for name, c := range map[string]struct {
		can  bool
		asks func(*hypervisor.Spec)
	}{
		"ports":     {can.Ports, func(s *hypervisor.Spec) { s.Ports = port("127.0.0.1", "tcp") }},
		"UDP":       {can.UDP, func(s *hypervisor.Spec) { s.Ports = port("127.0.0.1", "udp") }},
		"IPv6":      {can.IPv6, func(s *hypervisor.Spec) { s.Ports = port("::1", "tcp") }},
		"bridges":   {can.Bridges, func(s *hypervisor.Spec) { s.Bridge = "eth0" }},
		"shares":    {can.Shares, func(s *hypervisor.Spec) { s.Shares = []hypervisor.Share{{Path: "/", Tag: "tag"}} }},
		"disks":     {can.Disk == "", func(s *hypervisor.Spec) { s.Disks = []hypervisor.Disk{{Path: "/", Serial: "root"}} }},
		"a disk":    {can.Disk != "", func(s *hypervisor.Spec) { s.Bootable = "/" }},
		"many CPUs": {can.CPUs == 0, func(s *hypervisor.Spec) { s.CPUs = can.CPUs + 1 }},
		"no memory": {can.Memory == 0, func(s *hypervisor.Spec) { s.Memory = max(can.Memory-1, 0) }},
		"BIOS":      {slices.Contains(can.Firmware, hypervisor.BIOS), func(s *hypervisor.Spec) { s.System = &hypervisor.System{Firmware: hypervisor.BIOS} }},
		"UEFI":      {slices.Contains(can.Firmware, hypervisor.UEFI), func(s *hypervisor.Spec) { s.System = &hypervisor.System{Firmware: hypervisor.UEFI} }},
		"nonsense":  {false, func(s *hypervisor.Spec) { s.Accel = "nonsense" }},
	} {
		spec := &hypervisor.Spec{Memory: 1 << 30}
		c.asks(spec)
		err := hypervisor.Refuse(s.driver, spec)
		var cannot *hypervisor.CannotError
		if refused := errors.As(err, &cannot) && cannot.Hint() != ""; refused == c.can {
			t.Errorf("%s, which it can: %v, is answered with %v", name, c.can, err)
		}
	}
}
