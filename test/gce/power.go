package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
)

// running is a machine that is on: QEMU, with the disk on virtio-scsi, as
// Compute Engine's machines have theirs, and a metadata server of its own.
type running struct {
	cmd      *exec.Cmd
	metadata net.Listener
	ended    chan struct{}
	heard    chan struct{} // somebody has read the port since
}

// firmware is what boots machines.
const firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd"

func copySparse(from, to string) error {
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// powerOn starts a machine, whose serial port has said nothing then.
func (c *compute) powerOn(m *machine) error {
	m.starts++
	m.Status, m.LastStartTimestamp = proto.String("RUNNING"), now()
	if c.address != "" {
		m.NetworkInterfaces[0].AccessConfigs[0].NatIP = &c.address
		return os.WriteFile(m.serial, fmt.Appendf(nil, "kernel %d\n\ncapstan-begin: {}\napplication %[1]d\n", m.starts), 0o600)
	}
	if m.starts == 1 {
		c.booted++
		// Other processes are clouds, too.
		m.NetworkInterfaces[0].AccessConfigs[0].NatIP = proto.String(fmt.Sprintf("127.77.%d.%d", os.Getpid()%250, c.booted%250+1))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	args, err := c.qemu(m, l.Addr().String())
	if err != nil {
		return err
	}
	run := &running{cmd: exec.Command("qemu-system-x86_64", args...), metadata: l, ended: make(chan struct{}), heard: make(chan struct{}, 1)}
	run.cmd.Stderr = os.Stderr
	run.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := run.cmd.Start(); err != nil {
		return err
	}
	m.running = run
	go http.Serve(l, metadataOf(m)) // ends with the listener
	go func() {
		_ = run.cmd.Wait() // however it ended, it is off
		l.Close()
		close(run.ended)
		if c.change(m, run, "STOPPING") {
			select {
			case <-run.heard:
				time.Sleep(stopping)
			case <-time.After(afterlife):
			}
			c.change(m, run, "TERMINATED")
		}
	}()
	return nil
}

const (
	// afterlife is how long a machine is stopping that has ended by itself, at
	// most, if nobody reads its port.
	afterlife = 20 * time.Second
	// stopping is for how long its port can be read again then: Compute Engine
	// takes its time, too, and a reader may have been at another question.
	stopping = 5 * time.Second
)

// isOver tells whether a machine that was on has ended by itself.
func (r *running) isOver() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// change sets a machine's status, unless another power-on is what it has by now.
func (c *compute) change(m *machine, run *running, status string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.running != run {
		return false
	}
	if m.Status = &status; status == "TERMINATED" {
		m.running = nil
	}
	return true
}

// qemu is the command line of a machine. Its address is one of this host, where
// the ports are that firewall rules have opened to it.
func (c *compute) qemu(m *machine, metadata string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	network := "user,id=n,net=169.254.169.0/24,dhcpstart=169.254.169.15,guestfwd=tcp:169.254.169.254:80-cmd:" + self + " " + relayWord + " " + metadata
	for _, f := range c.firewalls {
		if f.GetTargetTags()[0] != m.GetTags().GetItems()[0] {
			continue
		}
		for _, a := range f.GetAllowed() {
			for _, p := range a.GetPorts() {
				network += fmt.Sprintf(",hostfwd=%s:%s:%s-:%s", a.GetIPProtocol(), m.GetNetworkInterfaces()[0].GetAccessConfigs()[0].GetNatIP(), p, p)
			}
		}
	}
	var memory, cpus int32
	for _, t := range machineTypes {
		if t.GetName() == m.GetMachineType() {
			memory, cpus = t.GetMemoryMb(), t.GetGuestCpus()
		}
	}
	return append([]string{
		"-accel", "tcg", "-machine", "q35", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot",
		"-m", fmt.Sprintf("%dM", memory), "-smp", fmt.Sprint(cpus),
		"-smbios", "type=1,manufacturer=Google,product=Google Compute Engine",
		"-drive", "if=pflash,format=raw,readonly=on,file=" + firmware,
		"-drive", "if=none,id=d,format=raw,file=" + m.disk, "-device", "virtio-scsi-pci,id=v", "-device", "scsi-hd,drive=d,bus=v.0",
		"-netdev", network, "-device", "virtio-net-pci,netdev=n,romfile=",
		"-serial", "file:" + m.serial, "-qmp", "unix:" + m.disk + ".qmp,server=on,wait=off",
	}, c.qemuDisks(m)...), nil
}

// powerOff presses the power button, or cuts the power. A machine that was
// asked to end is off some time after it has.
func (c *compute) powerOff(m *machine, ask bool) {
	run := m.running
	if run == nil || run.isOver() {
		return
	}
	if ask {
		err := press(m.disk + ".qmp")
		if err == nil {
			return // STOPPING, until it has ended
		}
		log.Printf("pressing the power button: %v", err)
	}
	m.running, m.Status = nil, proto.String("TERMINATED")
	_ = run.cmd.Process.Kill() // it may have ended
	<-run.ended                // before its owner asks for the lock
}

// press presses a machine's power button, by QEMU's monitor.
func press(monitor string) error {
	conn, err := net.Dial("unix", monitor)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, `{"execute":"qmp_capabilities"}{"execute":"system_powerdown","id":"press"}`); err != nil {
		return err
	}
	for d := json.NewDecoder(conn); ; {
		var answer struct{ ID string }
		if err := d.Decode(&answer); err != nil || answer.ID == "press" {
			return err
		}
	}
}

// metadataOf is a machine's metadata server ("About VM metadata").
func metadataOf(m *machine) http.Handler {
	values := map[string]string{"/computeMetadata/v1/instance/hostname": m.GetName() + ".us-central1-a.c.a-project.internal"}
	for _, i := range m.GetMetadata().GetItems() {
		values["/computeMetadata/v1/instance/attributes/"+i.GetKey()] = i.GetValue()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, ok := values[r.URL.Path]
		switch {
		case r.Header.Get("Metadata-Flavor") != "Google":
			http.Error(w, "Missing required header: Metadata-Flavor", http.StatusForbidden)
		case !ok || r.Method != "GET":
			http.NotFound(w, r)
		default:
			w.Header().Set("Metadata-Flavor", "Google")
			io.WriteString(w, value)
		}
	})
}

const relayWord = "relay-to"

// relay carries a connection of a machine's, which is this process's standard
// input and output, to its metadata server.
func relay(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		io.Copy(conn, os.Stdin)
		os.Exit(0) // the machine has closed its end
	}()
	_, err = io.Copy(os.Stdout, conn)
	return err
}
