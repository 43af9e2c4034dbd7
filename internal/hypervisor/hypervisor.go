// Package hypervisor is what the rest of Capstan knows of hypervisors: the
// driver interface, and the values that cross it. A driver does one platform
// and lives in a folder of its own below this one; it knows nothing of
// registries, Capstanfiles or flags.
package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"capstan/guest/api"
	"capstan/internal/image/disk"
)

// Platform is where machines run.
type Platform interface {
	// Name is what --on takes: "qemu".
	Name() string
	// Capabilities are what this platform can do.
	Capabilities() Capabilities
}

// Driver starts virtual machines on one platform of this host. It holds no
// state of its own: all that must survive lies in the instance's directory or
// in the platform. Its methods may be called by several processes at once.
type Driver interface {
	Platform
	// Check tells whether the platform can be used on this host, at once
	// and without side effects. Its error says what to install.
	Check(ctx context.Context) error
	// Start boots spec and returns once the platform runs it. The machine
	// ends with ctx, and never outlives the process that started it.
	Start(ctx context.Context, spec *Spec) (Machine, error)
}

// Cleaner is a driver whose machines can outlive the process that started
// them, where that is killed.
type Cleaner interface {
	// Clean ends what such a process has left running, and has the platform
	// forget it, for an instance's directory. Where there is nothing, it does
	// nothing.
	Clean(ctx context.Context, dir string) error
}

// Machine is a running virtual machine, owned by the process that started it.
type Machine interface {
	// Console is the application's console. Reads end with io.EOF when the
	// machine is gone.
	Console() io.ReadWriter
	// Control is the channel of the guest's REST API (guest/api), or nil
	// where the spec has a System: nobody would answer.
	Control() io.ReadWriteCloser
	// Ports are the forwards in force, with the host ports really taken.
	Ports() []Port
	// Accel is the accelerator in use ("kvm", "tcg", …) and, where the
	// machine runs unaccelerated, why.
	Accel() (name, why string)
	// PID is the hypervisor's process, for people; 0 if there is none.
	PID() int
	// Powerdown asks the guest to end by the platform's own means.
	Powerdown(ctx context.Context) error
	// Kill cuts the power. Killing a dead machine is no error.
	Kill() error
	// Wait returns how the machine ended, once it has and all of its
	// resources are free. It may be called more than once.
	Wait() End
}

// Capabilities are what a platform can do; Refuse refuses what it cannot.
type Capabilities struct {
	// Away says that the machines are elsewhere: they have addresses of their
	// own, no input, and nobody who watches over them.
	Away bool
	// Cloud says that what a CloudSpec asks for can be had. Ports are then
	// opened on the machine's own address.
	Cloud bool
	// OneConsole says that the kernel speaks on the application's console.
	OneConsole bool
	// Window says that of a console there is a window on its end, of all that
	// the machine has ever said, and not what it has said since its last start.
	Window  bool
	Ports   bool     // forwards from the host's ports
	Shares  bool     // directories of the host
	UDP     bool     // forwards of UDP
	IPv6    bool     // forwards from IPv6 addresses of the host
	Bridges bool     // machines in the host's own network
	CPUs    int      // the most of one machine; 0: no bound is known
	Memory  int64    // the least of one machine, in bytes
	Accels  []string // what Spec.Accel may force
	// Firmware is what can boot a System; none cannot boot any.
	Firmware []Firmware
	// Disk is the format of the disk that has to hold the guest, on platforms
	// that boot no kernel by themselves; "" on those that do. Console and
	// Control are then what the config on the disk says of its channels.
	Disk             disk.Format
	Console, Control string
}

// Spec is one machine to start.
type Spec struct {
	// Name is the instance's. Dir is its directory, an absolute path, where
	// the driver may keep files.
	Name string
	Dir  string
	// Kernel is the guest: kernel and PID 1 in one bzImage. Decompressed is
	// the same as an uncompressed ELF file for direct boot, or "".
	Kernel       string
	Decompressed string
	// Bootable is a disk in Capabilities.Disk's format that holds the guest
	// with its config, the root and what is written, on platforms that need
	// one. Guest is what the config says; Kernel and Disks are not used.
	Bootable string `json:",omitempty"`
	// System, if there is one, boots in the place of the guest. Of Guest,
	// only whether there is a network counts then.
	System *System `json:",omitempty"`
	// Guest is the instance config, which the driver completes with what
	// it decides (network addresses) and hands to the guest.
	Guest api.Config
	// Disks are attached in order.
	Disks []Disk
	// Memory is in bytes.
	Memory int64
	CPUs   int
	// Bridge is an interface of the host, in whose network the machine is a
	// host of its own; "" gives it a network behind the host's.
	Bridge string `json:",omitempty"`
	Ports  []Port
	Shares []Share
	// Accel forces an accelerator; "" takes the best that really works.
	Accel string
	// KernelLog is the file that receives the kernel's own console.
	KernelLog string
	Verbose   bool
}

// System is a disk with a system of its own, of which nothing is known: the
// machine's firmware boots it, and its first serial port is the console.
type System struct {
	// Disk is a qcow2 overlay of Base, which takes all writes. Base is read
	// only, and is not trusted: nothing that it says of other files counts.
	Disk, Base string
	// Format is Base's.
	Format   disk.Format
	Firmware Firmware
	Bus      Bus
}

// Firmware is what boots a System.
type Firmware string

const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Bus is how a System's disk is attached.
type Bus string

const (
	Virtio Bus = "virtio"
	IDE    Bus = "ide"
	SATA   Bus = "sata"
)

// Disk is a raw disk image. The guest finds it by Serial (at most 20 bytes).
type Disk struct {
	Path     string
	Serial   string
	ReadOnly bool
}

// Share is a directory of the host, mounted in the guest by its Tag.
type Share struct {
	Tag      string
	Path     string
	ReadOnly bool
}

// Port forwards a port of the host to one of the guest.
type Port struct {
	Host     netip.Addr `json:"host_ip"`
	HostPort uint16     `json:"host_port"` // 0: any free one
	Guest    uint16     `json:"guest_port"`
	Protocol string     `json:"protocol"` // "tcp" or "udp"
}

func (p Port) String() string {
	return fmt.Sprintf("%s->%d/%s", netip.AddrPortFrom(p.Host, p.HostPort), p.Guest, p.Protocol)
}

// End is how a machine ended, as the platform saw it. What the application's
// exit status was is for the guest to tell.
type End struct {
	// Cause is why the machine stopped.
	Cause Cause
	// Detail is one line for people: "kernel panic: " and the kernel's words
	// where it panicked, else the hypervisor's last error message.
	Detail string
}

// Cause is why a machine stopped.
type Cause string

const (
	// PoweredOff: the guest powered itself off or reset.
	PoweredOff Cause = "powered off"
	// Killed: by Kill or by the end of Start's context.
	Killed Cause = "killed"
	// Died: the hypervisor ended by itself or was killed from outside.
	Died Cause = "died"
)

// PortError is a forward that could not be made. It wraps ErrPortInUse where
// that is why.
type PortError struct {
	Port   Port
	Err    error
	Remedy string
}

func (e *PortError) Error() string {
	return fmt.Sprintf("publishing %s/%s: %v", netip.AddrPortFrom(e.Port.Host, e.Port.HostPort), e.Port.Protocol, e.Err)
}

func (e *PortError) Unwrap() error { return e.Err }

// Hint is the way out.
func (e *PortError) Hint() string { return e.Remedy }

// ErrPortInUse is wrapped by Start where a host port is taken.
var ErrPortInUse = errors.New("port is in use")

// UnavailableError says that a platform cannot be used on this host and what
// to do about it.
type UnavailableError struct {
	Platform string
	Reason   string // "qemu-system-x86_64 is not installed"
	Remedy   string // "apt-get install qemu-system-x86"
}

func (e *UnavailableError) Error() string { return e.Platform + ": " + e.Reason }

// Hint is the way out.
func (e *UnavailableError) Hint() string { return e.Remedy }
