package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/digitalocean/go-qemu/qmp/raw"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/serial"
)

// Name is the platform's.
const Name = "qemu"

// startTimeout bounds the time from QEMU's start to its answer on QMP, which
// takes 30 ms where nothing else runs.
const startTimeout = time.Minute

// Options are what a user can set.
type Options struct {
	// Path is the emulator: a path or a name to look up in the PATH. ""
	// takes the PATH's qemu-system-x86_64, else one of the usual places.
	Path string
}

// Driver is the QEMU driver.
type Driver struct{ options Options }

var _ hypervisor.Driver = (*Driver)(nil)

// New makes a driver. It looks for nothing yet.
func New(options Options) *Driver { return &Driver{options} }

// Name is "qemu".
func (d *Driver) Name() string { return Name }

// Capabilities are those of QEMU's user-mode network and of 9p, which QEMU
// has on Unix only. 255 processors are what all its machines have without an
// IOMMU.
func (d *Driver) Capabilities() hypervisor.Capabilities {
	return hypervisor.Capabilities{
		Ports: true, UDP: true, Shares: runtime.GOOS != "windows",
		CPUs: 255, Accels: []string{"kvm", "hvf", "whpx", "tcg"},
		Firmware: []hypervisor.Firmware{hypervisor.BIOS, hypervisor.UEFI},
	}
}

// Check tells whether there is a QEMU that is new enough.
func (d *Driver) Check(ctx context.Context) error {
	_, _, err := d.Version(ctx)
	return err
}

// Start boots spec and returns once QEMU has made the machine, with its ports
// taken.
func (d *Driver) Start(ctx context.Context, spec *hypervisor.Spec) (hypervisor.Machine, error) {
	path, err := d.find()
	if err != nil {
		return nil, err
	}
	full, err := complete(spec)
	if err != nil {
		return nil, err
	}
	if err := checkFiles(full); err != nil {
		return nil, err
	}
	l := &launch{goos: runtime.GOOS, accel: full.Accel, spec: full, sandbox: runtime.GOOS == "linux"}
	var why string
	if l.accel == "" {
		l.accel, why = ProbeAccel()
	}
	if full.System == nil {
		l.config, err = writeConfig(full.Dir, full.Guest)
	} else if full.System.Firmware == hypervisor.UEFI {
		l.firmware, err = prepareUEFI(path, full.Dir)
	}
	if err != nil {
		return nil, err
	}
	m, err := d.start(ctx, path, l)
	if errors.Is(err, errNoSandbox) {
		l.sandbox = false
		m, err = d.start(ctx, path, l)
	}
	if errors.Is(err, errNoMicrovm) {
		l.noMicrovm = true
		m, err = d.start(ctx, path, l)
	}
	if err != nil {
		return nil, d.blameVersion(ctx, err)
	}
	m.accel, m.why = l.accel, why
	return m, nil
}

// blameVersion is err, unless QEMU is so old that this must be why.
func (d *Driver) blameVersion(ctx context.Context, err error) error {
	var unusable *hypervisor.UnavailableError
	if ctx.Err() == nil && !errors.Is(err, hypervisor.ErrPortInUse) && errors.As(d.Check(ctx), &unusable) {
		return unusable
	}
	return err
}

// start runs QEMU as l says, and leaves nothing behind where that fails.
func (d *Driver) start(ctx context.Context, path string, l *launch) (*machine, error) {
	log, err := serial.OpenKernelLog(l.spec.KernelLog)
	if err != nil {
		return nil, err
	}
	c, err := newChannels(l.spec.Dir)
	if err != nil {
		log.Close()
		return nil, err
	}
	l.channels = c.args()
	cmd := exec.Command(path, l.args()...)
	cmd.Dir = l.spec.Dir
	cmd.ExtraFiles = c.theirs
	proc, err := startProcess(cmd)
	if err != nil {
		log.Close()
		return nil, errors.Join(unavailable(fmt.Sprintf("starting %s: %v", path, cause(err))), c.close())
	}
	m, err := d.handshake(ctx, proc, c, l)
	if err != nil {
		log.Close()
		return nil, errors.Join(err, c.close())
	}
	m.run(ctx, log, c.ours[chanKernel])
	return m, nil
}

// handshake speaks with a QEMU that was just started, and lets the guest run
// once all is known that there is to know: whatever the guest does is seen.
// Where it fails, QEMU is gone.
func (d *Driver) handshake(ctx context.Context, proc *process, c *channels, l *launch) (*machine, error) {
	bound, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	m := &machine{proc: proc, done: make(chan struct{}), powerButton: l.hasPowerButton()}
	err := c.connect(bound, proc.done)
	if err == nil {
		m.console = &console{c.ours[chanConsole]}
		if l.spec.System == nil {
			m.control = c.ours[chanControl]
		}
		m.qmp, err = newClient(bound, c.ours[chanQMP], m.observe)
	}
	if err == nil {
		v := m.qmp.version
		err = checkVersion(v.String(), v.QEMU.Major)
	}
	if err == nil {
		m.ports, err = takenPorts(monitor{m.qmp, bound}, l.spec.Ports)
	}
	if err == nil {
		err = raw.NewMonitor(monitor{m.qmp, bound}).Cont()
	}
	if err == nil {
		return m, nil
	}
	alone := waitBriefly(proc) // a QEMU that refuses its arguments ends by itself
	if err := proc.kill(); err != nil {
		return nil, fmt.Errorf("ending QEMU: %w", err)
	}
	if m.qmp != nil {
		m.qmp.Disconnect()
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("starting QEMU: %w", ctx.Err())
	}
	if alone {
		return nil, explain(proc, l)
	}
	return nil, fmt.Errorf("starting QEMU: %w", err)
}

// waitBriefly tells whether QEMU ends by itself: its sockets close a moment
// before the process does.
func waitBriefly(proc *process) bool {
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	select {
	case <-proc.done:
		return true
	case <-patience.C:
		return false
	}
}

// checkFiles finds what QEMU would complain of at length.
func checkFiles(s *hypervisor.Spec) error {
	kernel := s.Kernel
	if s.Decompressed != "" {
		kernel = s.Decompressed
	}
	if s.System != nil {
		if err := errors.Join(canOpen(s.System.Disk, os.O_RDWR), canOpen(s.System.Base, os.O_RDONLY)); err != nil {
			return fmt.Errorf("opening the system's disk: %w", err)
		}
	} else if err := canOpen(kernel, os.O_RDONLY); err != nil {
		return fmt.Errorf("opening the guest kernel: %w", err)
	}
	for _, d := range s.Disks {
		mode := os.O_RDWR
		if d.ReadOnly {
			mode = os.O_RDONLY
		}
		if err := canOpen(d.Path, mode); err != nil {
			return fmt.Errorf("opening the disk %q: %w", d.Serial, err)
		}
	}
	for _, share := range s.Shares {
		info, err := os.Stat(share.Path)
		if err != nil {
			return fmt.Errorf("opening a shared directory: %w", err)
		}
		if !info.IsDir() {
			return fmt.Errorf("opening a shared directory: %s is not a directory", share.Path)
		}
	}
	return nil
}

func canOpen(path string, mode int) error {
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
