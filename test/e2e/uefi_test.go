//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ovmf is UEFI firmware, for machines that run nothing of ours but a disk.
const ovmf = "/usr/share/OVMF/OVMF_CODE_4M.fd"

// hardware is a machine as another hypervisor has it. The zero value of a
// field is the usual.
type hardware struct {
	machine string // q35
	cpu     string // max
	memory  string // 512M
	cpus    int    // 1
	// disk is a device, or a controller and a disk on it; its drive is "d".
	disk string
	nic  string // virtio-net-pci
	// boot is a file that QEMU hands to the firmware, where that has no
	// driver for the disk.
	boot string
	// forward is a port of the guest that the host reaches.
	forward int
}

// uefi is a machine that runs.
type uefi struct {
	t      *testing.T
	cmd    *exec.Cmd
	serial string
	ask    *json.Encoder // of QEMU's monitor
	answer *json.Decoder
	errors bytes.Buffer
	ended  chan struct{}
}

// bootUEFI starts a machine from a disk and nothing else. What is left of it
// ends with the test.
func bootUEFI(t *testing.T, hw hardware, format, path string) *uefi {
	t.Helper()
	if _, err := os.Stat(ovmf); err != nil {
		t.Fatalf("%v: apt-get install ovmf", err)
	}
	m := &uefi{t: t, serial: filepath.Join(t.TempDir(), "serial"), ended: make(chan struct{})}
	forward := ""
	if hw.forward > 0 {
		forward = fmt.Sprintf(",hostfwd=tcp:127.0.0.1:0-:%d", hw.forward)
	}
	args := []string{
		"-accel", "tcg", "-machine", cmp.Or(hw.machine, "q35"), "-cpu", cmp.Or(hw.cpu, "max"),
		"-m", cmp.Or(hw.memory, "512M"), "-smp", itoa(max(1, hw.cpus)),
		"-nodefaults", "-display", "none", "-no-reboot", "-qmp", "stdio", "-serial", "file:" + m.serial,
		"-netdev", "user,id=n" + forward, "-device", cmp.Or(hw.nic, "virtio-net-pci") + ",netdev=n,romfile=",
		"-drive", "if=pflash,format=raw,readonly=on,file=" + ovmf,
		"-drive", "if=none,id=d,format=" + format + ",file=" + path,
	}
	if hw.boot != "" {
		args = append(args, "-kernel", hw.boot)
	}
	m.cmd = exec.Command(need(t, "qemu-system-x86_64", "qemu-system-x86"), append(args, strings.Fields(hw.disk)...)...)
	m.cmd.Stderr = &m.errors
	in, err := m.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.ask, m.answer = json.NewEncoder(in), json.NewDecoder(out)
	watchdog := time.AfterFunc(serveBound, func() { _ = m.cmd.Process.Kill() })
	go func() {
		_ = m.cmd.Wait() // how it ended, the console tells
		close(m.ended)
	}()
	t.Cleanup(func() {
		watchdog.Stop()
		_ = m.cmd.Process.Kill() // most have ended
		<-m.ended
		if t.Failed() {
			t.Logf("its console:\n%s\n%s", tail(m.console()), &m.errors)
		}
	})
	var greeting struct{ QMP json.RawMessage }
	if err := m.answer.Decode(&greeting); err != nil {
		t.Fatalf("QEMU did not start: %v\n%s", err, &m.errors)
	}
	m.monitor("qmp_capabilities", nil)
	return m
}

// monitor has QEMU carry a command out, and returns what it answers.
func (m *uefi) monitor(command string, arguments map[string]string) json.RawMessage {
	m.t.Helper()
	ask := struct {
		Execute   string            `json:"execute"`
		Arguments map[string]string `json:"arguments,omitempty"`
	}{command, arguments}
	if err := m.ask.Encode(ask); err != nil {
		m.t.Fatalf("%s: %v\n%s", command, err, &m.errors)
	}
	for {
		var said struct{ Return, Error json.RawMessage } // or an event
		if err := m.answer.Decode(&said); err != nil || said.Error != nil {
			m.t.Fatalf("%s: %s, %v", command, said.Error, err)
		}
		if said.Return != nil {
			return said.Return
		}
	}
}

var forwarded = regexp.MustCompile(`TCP\[HOST_FORWARD\] +\d+ +127\.0\.0\.1 +(\d+) `)

// address is where the host reaches the forwarded port, which QEMU tells only
// for people.
func (m *uefi) address() string {
	m.t.Helper()
	var table string
	answer := m.monitor("human-monitor-command", map[string]string{"command-line": "info usernet"})
	if err := json.Unmarshal(answer, &table); err != nil {
		m.t.Fatal(err)
	}
	port := forwarded.FindStringSubmatch(table)
	if port == nil {
		m.t.Fatalf("no port is forwarded:\n%s", table)
	}
	return "127.0.0.1:" + port[1]
}

// console is what the serial port has said.
func (m *uefi) console() string {
	text, _ := os.ReadFile(m.serial) // none yet
	return string(text)
}

// says waits until the console says something.
func (m *uefi) says(text string) {
	m.t.Helper()
	for !strings.Contains(m.console(), text) {
		select {
		case <-m.ended:
			m.t.Fatalf("the machine ended before it said %q", text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end waits until the machine has switched itself off, and checks that the
// application ended with a status.
func (m *uefi) end(status int) string {
	m.t.Helper()
	<-m.ended
	text := m.console()
	if want := fmt.Sprintf(`capstan-exit: {"status":%d`, status); !strings.Contains(text, want) {
		m.t.Fatalf("no %q at its end", want)
	}
	return text
}

// cut cuts the machine's power.
func (m *uefi) cut() {
	m.t.Helper()
	if err := m.cmd.Process.Kill(); err != nil {
		m.t.Fatal(err)
	}
	<-m.ended
}
