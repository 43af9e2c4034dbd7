//go:build linux

package ec2test

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// machine is what an instance is: QEMU while it is on, with the disk on NVMe,
// as the Nitro system's have theirs, and a metadata server of its own. Its chipset
// is the Nitro system's, too: one whose root bus takes devices while it runs.
type machine struct {
	id, region     string
	zone           string
	kind, hostname string
	groups         []string // security groups
	userData       []byte
	group          string // an Auto Scaling group, which terminates one that is off
	once           bool   // ends when its guest switches itself off

	disk, serial, monitor string
	state                 types.InstanceStateName
	address               string // while it is on
	started               time.Time
	starts                int
	cmd                   *exec.Cmd
}

// firmware is what boots machines.
const firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd"

// most is the memory that a machine has at most, in MiB, whatever its type says.
const most = 512

// takeData decodes user data, which a template has in base64.
func (m *machine) takeData(text string) (err error) {
	m.userData, err = base64.StdEncoding.DecodeString(text)
	return err
}

// make makes a machine's disk, of its image's snapshot.
func (c *Cloud) make(m *machine, ami string) error {
	m.disk, m.serial, m.monitor = filepath.Join(c.dir, m.id+".qcow2"), filepath.Join(c.dir, m.id+".serial"), filepath.Join(c.dir, m.id+".qmp")
	if c.address != "" {
		return nil
	}
	form := c.images[ami].form
	for form.Has("SourceImageId") { // a copy from another region
		form = c.images[form.Get("SourceImageId")].form
	}
	const root = "BlockDeviceMapping.1.Ebs."
	snapshot := filepath.Join(c.dir, form.Get(root+"SnapshotId")+".raw")
	out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-b", snapshot, "-F", "raw", m.disk, form.Get(root+"VolumeSize")+"G").CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	return nil
}

// boot switches a machine on. Its console goes on where it was.
func (c *Cloud) boot(m *machine) error {
	m.starts++
	m.state, m.started = types.InstanceStateNamePending, time.Now()
	if c.address != "" {
		m.address = c.address
		f, err := os.OpenFile(m.serial, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "kernel %d\n\ncapstan-begin: {}\napplication %[1]d\n", m.starts)
		return errors.Join(err, f.Close())
	}
	c.booted++
	m.address = fmt.Sprintf("127.88.%d.%d", os.Getpid()%250, c.booted%250+1) // other processes have clouds, too
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cmd, err := c.qemu(m, l.Addr().String())
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	m.cmd = cmd
	c.wait.Go(func() { m.serveMetadata(l) }) // ends with the listener
	c.wait.Go(func() {
		_ = cmd.Wait() // however it ended, it is off
		l.Close()
		c.ended(m, cmd)
	})
	return nil
}

// ended notes that a machine is off.
func (c *Cloud) ended(m *machine, cmd *exec.Cmd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.cmd != cmd || c.ending || c.machines[m.id] != m {
		return
	}
	asked := m.state == types.InstanceStateNameStopping
	c.off(m)
	if m.group != "" || m.once && !asked {
		c.ask("ec2", m.region, url.Values{"Action": {"TerminateInstances"}, "InstanceId.1": {m.id}})
		c.follow(m.region) // Auto Scaling replaces it
	}
}

// off has moto know that an instance has stopped, and lost its address.
func (c *Cloud) off(m *machine) {
	m.cmd, m.state, m.address = nil, types.InstanceStateNameStopped, ""
	c.ask("ec2", m.region, url.Values{"Action": {"StopInstances"}, "InstanceId.1": {m.id}})
}

// qemu is a machine that is off. Its address is one of this host, where the
// ports are that its security groups let in from this host.
func (c *Cloud) qemu(m *machine, metadata string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	memory, cpus, err := c.size(m)
	if err != nil {
		return nil, err
	}
	network := "user,id=n,net=169.254.169.0/24,dhcpstart=169.254.169.15,guestfwd=tcp:169.254.169.254:80-cmd:" + self + " " + relayWord + " " + metadata
	for _, g := range m.groups {
		for _, r := range c.open[g] {
			if !slices.ContainsFunc(r.sources, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr("127.0.0.1")) }) {
				continue
			}
			for port := r.from; port <= r.to; port++ {
				network += fmt.Sprintf(",hostfwd=%s:%s:%d-:%[3]d", r.protocol, m.address, port)
			}
		}
	}
	cmd := exec.Command("qemu-system-x86_64",
		"-accel", "tcg", "-machine", "pc", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot",
		"-m", fmt.Sprintf("%dM", min(memory, most)), "-smp", fmt.Sprint(cpus),
		"-smbios", "type=1,manufacturer=Amazon EC2,product="+m.kind+",uuid=ec2"+m.id[2:7]+"-0000-4000-8000-"+m.id[7:19],
		"-drive", "if=pflash,format=raw,readonly=on,file="+firmware,
		"-drive", "if=none,id=d,format=qcow2,file="+m.disk, "-device", "nvme,drive=d,serial=vol"+m.id[2:],
		"-netdev", network, "-device", "virtio-net-pci,netdev=n,romfile=",
		"-chardev", "file,id=s,append=on,path="+m.serial, "-serial", "chardev:s",
		"-qmp", "unix:"+m.monitor+",server=on,wait=off",
	)
	cmd.Args = append(cmd.Args, c.qemuDisks(m)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// size is how much memory a machine's type has, in MiB, and how many CPUs.
func (c *Cloud) size(m *machine) (memory, cpus int, err error) {
	var out struct {
		Memory int `xml:"instanceTypeSet>item>memoryInfo>sizeInMiB"`
		CPUs   int `xml:"instanceTypeSet>item>vCpuInfo>defaultVCpus"`
	}
	text := c.ask("ec2", m.region, url.Values{"Action": {"DescribeInstanceTypes"}, "InstanceType.1": {m.kind}})
	if err := xml.Unmarshal(text, &out); err != nil || out.Memory == 0 || out.CPUs == 0 {
		return 0, 0, fmt.Errorf("moto's type %s: %+v, %w", m.kind, out, err)
	}
	return out.Memory, out.CPUs, nil
}

// halt presses the power button, or cuts the power. A machine that was asked
// to end is off once it has.
func (c *Cloud) halt(m *machine, force bool) {
	if m.state == types.InstanceStateNameStopped {
		return
	}
	if c.address != "" {
		c.off(m)
		return
	}
	m.state = types.InstanceStateNameStopping
	if force {
		m.kill()
	} else if err := press(m.monitor); err != nil {
		fmt.Fprintf(os.Stderr, "pressing the power button of %s: %v\n", m.id, err) // it may have ended
	}
}

// kill cuts a machine's power, if it has.
func (m *machine) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill() // it may have ended
	}
}

// press presses a machine's power button, by QEMU's monitor.
func press(monitor string) error {
	return tell(monitor, map[string]any{"execute": "system_powerdown"})
}

// consoleOutput is the last of what an instance's console has said.
func (c *Cloud) consoleOutput(id string) []byte {
	const kept = 64 << 10
	m := c.machines[id]
	if m == nil {
		return nil // moto knows what to say
	}
	text, err := os.ReadFile(m.serial)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Error(err)
	}
	text = text[max(0, len(text)-kept):]
	return fmt.Appendf(nil, "<GetConsoleOutputResponse><instanceId>%s</instanceId><timestamp>%s</timestamp><output>%s</output></GetConsoleOutputResponse>",
		id, time.Now().UTC().Format(time.RFC3339), base64.StdEncoding.EncodeToString(text))
}
