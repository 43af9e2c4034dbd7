package qemu

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// The addresses of QEMU's user-mode network, which are the same in every
// instance: each has a network of its own.
const (
	guestAddress = "10.0.2.15/24"
	gateway      = "10.0.2.2"
	nameserver   = "10.0.2.3"
)

// microvmSlots is how many virtio-mmio devices microvm has without ACPI.
const microvmSlots = 8

// minMemory is with how many bytes the guest's kernel comes far enough to say
// what is wrong; with less it hangs or resets in silence.
const minMemory = 40 << 20

// channel is one of QEMU's character devices and what it is connected to, in
// the words of -chardev: "socket,fd=3".
type channel struct{ id, backend string }

// launch is all that a command line depends on.
type launch struct {
	goos      string // of the host
	accel     string
	sandbox   bool
	noMicrovm bool
	spec      *hypervisor.Spec
	config    string    // the initramfs with the instance's config
	firmware  firmware  // of a System that boots by UEFI
	channels  []channel // qmp, kernel, console, control
}

// Character devices, in the order of launch.channels.
const (
	chanQMP = iota
	chanKernel
	chanConsole
	chanControl
	channelCount
)

var channelIDs = [channelCount]string{"qmp", "kernel", "console", "control"}

// machine is the machine type that has room for the devices.
func (l *launch) machine() string {
	if l.spec.System != nil {
		return systemMachine(l.spec.System)
	}
	devices := len(l.spec.Disks) + len(l.spec.Shares) + 2 // serial and rng
	if l.network() {
		devices++
	}
	if devices <= microvmSlots && !l.noMicrovm {
		return "microvm"
	}
	return "q35"
}

func (l *launch) network() bool { return !l.spec.Guest.Network.None }

// hasPowerButton tells whether system_powerdown reaches the guest.
func (l *launch) hasPowerButton() bool { return l.machine() != "microvm" }

// args is QEMU's command line, without the program.
func (l *launch) args() []string {
	s := l.spec
	args := []string{
		"-name", "guest=" + escape(s.Name),
		"-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-machine", machineOptions[l.machine()],
		"-accel", l.accel, "-cpu", l.cpu(),
		"-smp", strconv.Itoa(max(s.CPUs, 1)),
		"-m", strconv.FormatInt(mebibytes(s.Memory), 10) + "M",
	}
	if l.sandbox {
		args = append(args, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
	}
	for _, c := range l.channels {
		args = append(args, "-chardev", strings.Replace(c.backend, ",", ",id="+c.id+",", 1))
	}
	args = append(args, "-mon", "chardev=qmp,mode=control")
	if s.System != nil {
		args = append(args, l.system()...)
	} else {
		args = append(args, l.guest()...)
	}
	args = append(args, "-object", "rng-builtin,id=rng", "-device", l.virtio("rng", "rng=rng"))
	for i, d := range s.Disks {
		args = append(args, l.disk(i, d)...)
	}
	if l.network() {
		args = append(args, l.netdev()...)
	}
	for i, share := range s.Shares {
		args = append(args, l.share(i, share)...)
	}
	return args
}

// guest boots our own kernel and gives it its channels. A reset is its end.
func (l *launch) guest() []string {
	kernel := l.spec.Kernel
	if l.spec.Decompressed != "" {
		kernel = l.spec.Decompressed
	}
	return []string{
		"-no-reboot",
		"-kernel", kernel, "-initrd", l.config, "-append", l.kernelArgs(),
		"-serial", "chardev:kernel",
		"-device", l.virtio("serial", "max_ports=3"),
		"-device", "virtserialport,nr=1,chardev=console,name=" + api.ConsolePort,
		"-device", "virtserialport,nr=2,chardev=control,name=" + api.ControlPort,
	}
}

// machineOptions leave out what the guest has no use for: each device costs
// boot time in the guest.
var machineOptions = map[string]string{
	"microvm": "microvm,acpi=off,pit=on,pic=on,rtc=on,usb=off,graphics=off",
	"q35":     "q35,usb=off,smm=off,vmport=off,sata=off,smbus=off,graphics=off",
	// Whatever system it is, it may look for what these machines have.
	systemPC:  "pc",
	systemQ35: "q35",
}

// cpu is the processor's model: the host's where a hypervisor runs the guest,
// else all that QEMU can emulate.
func (l *launch) cpu() string {
	if l.accel == "kvm" || l.accel == "hvf" {
		return "host"
	}
	return "max"
}

// mebibytes rounds up: a guest that was promised 48,000,000 bytes gets them.
func mebibytes(bytes int64) int64 { return (bytes + 1<<20 - 1) >> 20 }

// kernelArgs is the kernel's command line. A panic resets at once, which
// -no-reboot turns into an end; so does a reset by triple fault, the only one
// that microvm has. The rest saves boot time under TCG: about 100 ms of 700 for
// not patching locks for one processor, 10 ms for trusting the emulated clocks.
// microvm has neither ACPI nor PCI, which the kernel would look for and miss
// aloud.
func (l *launch) kernelArgs() string {
	words := "console=ttyS0 panic=-1 reboot=t noreplace-smp no_timer_check"
	if l.machine() == "microvm" {
		words += " acpi=off pci=off"
	}
	if l.accel == "tcg" {
		words += " tsc=reliable"
	}
	if l.spec.Verbose {
		return words + " loglevel=7"
	}
	return words + " quiet loglevel=4"
}

// virtio is a device on the machine's bus with its options.
func (l *launch) virtio(kind, options string) string {
	bus := "pci"
	if l.machine() == "microvm" {
		bus = "device"
	}
	return "virtio-" + kind + "-" + bus + "," + options
}

// blockdev is the part of QAPI's BlockdevOptions for raw files.
type blockdev struct {
	Driver   string    `json:"driver"`
	NodeName string    `json:"node-name,omitempty"`
	ReadOnly bool      `json:"read-only"`
	Discard  string    `json:"discard"`
	Cache    *cache    `json:"cache,omitempty"`
	File     *blockdev `json:"file,omitempty"`
	Filename string    `json:"filename,omitempty"`
	Locking  string    `json:"locking,omitempty"`
}

// cache is QAPI's BlockdevCacheOptions; this is -drive's cache=writeback.
type cache struct {
	Direct  bool `json:"direct"`
	NoFlush bool `json:"no-flush"`
}

func (l *launch) disk(i int, d hypervisor.Disk) []string {
	node := "disk" + strconv.Itoa(i)
	locking := "auto"
	if l.goos == "linux" && !d.ReadOnly {
		locking = "on" // fails where it is not to be had; elsewhere than on Linux it never is
	}
	doc, err := json.Marshal(blockdev{
		Driver: "raw", NodeName: node, ReadOnly: d.ReadOnly, Discard: "unmap", Cache: &cache{},
		File: &blockdev{Driver: "file", ReadOnly: d.ReadOnly, Discard: "unmap", Filename: d.Path, Locking: locking},
	})
	if err != nil {
		panic(err) // a struct of bools and strings always marshals
	}
	options := "drive=" + node + ",serial=" + escape(d.Serial)
	if !d.ReadOnly {
		// A full disk of the host's is the guest's error. By default QEMU
		// would stop the machine until somebody made room.
		options += ",werror=report"
	}
	return []string{"-blockdev", string(doc), "-device", l.virtio("blk", options)}
}

func (l *launch) netdev() []string {
	var netdev strings.Builder
	netdev.WriteString("user,id=net")
	for _, p := range l.spec.Ports {
		fmt.Fprintf(&netdev, ",hostfwd=%s:%s:%d-:%d", p.Protocol, p.Host, p.HostPort, p.Guest)
	}
	options := "netdev=net"
	if l.machine() != "microvm" {
		options += ",romfile="
	}
	return []string{"-netdev", netdev.String(), "-device", l.virtio("net", options)}
}

// share gives the guest a directory by 9p. With security_model=none files
// that the guest makes belong to the user who runs QEMU, and owners that it
// cannot set are no error: what a user expects of a directory of theirs.
func (l *launch) share(i int, s hypervisor.Share) []string {
	id := "share" + strconv.Itoa(i)
	fsdev := "local,id=" + id + ",security_model=none,multidevs=remap"
	if s.ReadOnly {
		fsdev += ",readonly=on"
	}
	return []string{"-fsdev", fsdev + ",path=" + escape(s.Path), "-device", l.virtio("9p", "fsdev="+id+",mount_tag="+escape(s.Tag))}
}

// escape doubles the commas of a value in QEMU's key=value syntax.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// complete checks a spec and returns a copy with the driver's decisions
// filled in, in which every port has a host address and a protocol.
func complete(spec *hypervisor.Spec) (*hypervisor.Spec, error) {
	s := *spec
	if s.Memory < minMemory {
		return nil, fmt.Errorf("%d MiB are too little memory for a machine: the least is %d MiB", mebibytes(s.Memory), minMemory>>20)
	}
	for _, d := range s.Disks {
		if d.Serial == "" || len(d.Serial) > 20 {
			return nil, fmt.Errorf("disk %s: serial %q has not 1 to 20 bytes", d.Path, d.Serial)
		}
	}
	for _, share := range s.Shares {
		if share.Tag == "" || len(share.Tag) > 31 {
			return nil, fmt.Errorf("share of %s: tag %q has not 1 to 31 bytes", share.Path, share.Tag)
		}
	}
	if err := checkSystem(s.System); err != nil {
		return nil, err
	}
	s.Guest.Version = api.Version
	if net := &s.Guest.Network; !net.None {
		net.Address, net.Gateway = guestAddress, gateway
		if len(net.Nameservers) == 0 {
			net.Nameservers = []string{nameserver}
		}
	} else if len(s.Ports) > 0 {
		return nil, fmt.Errorf("port %s: the instance has no network", s.Ports[0])
	}
	s.Ports = make([]hypervisor.Port, 0, len(spec.Ports))
	for _, p := range spec.Ports {
		p, err := completePort(p)
		if err != nil {
			return nil, err
		}
		s.Ports = append(s.Ports, p)
	}
	return &s, nil
}

func completePort(p hypervisor.Port) (hypervisor.Port, error) {
	if !p.Host.IsValid() {
		p.Host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	p.Host = p.Host.Unmap()
	if p.Protocol == "" {
		p.Protocol = "tcp"
	}
	switch {
	case p.Protocol != "tcp" && p.Protocol != "udp":
		return p, fmt.Errorf("port %s: the protocol is neither tcp nor udp", p)
	case !p.Host.Is4():
		return p, fmt.Errorf("port %s: QEMU's user network forwards from IPv4 addresses only", p)
	case p.Guest == 0:
		return p, fmt.Errorf("port %s: 0 is no port of the guest", p)
	}
	return p, nil
}
