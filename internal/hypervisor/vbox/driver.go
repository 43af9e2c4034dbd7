package vbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/serial"
	"capstan/internal/image/disk"
)

// Name is the platform's.
const Name = "vbox"

// Options are what a user can set.
type Options struct {
	// Path is VBoxManage: a path or a name to look up in the PATH. "" takes
	// the PATH's, else one of the usual places.
	Path string
}

// Driver is the VirtualBox driver.
type Driver struct{ options Options }

var (
	_ hypervisor.Driver  = (*Driver)(nil)
	_ hypervisor.Cleaner = (*Driver)(nil)
)

// New makes a driver. It looks for nothing yet.
func New(options Options) *Driver { return &Driver{options} }

// Name is "vbox".
func (d *Driver) Name() string { return Name }

// Capabilities are those of VirtualBox's NAT, which forwards from IPv4
// addresses, and of machines without its guest additions, which would share
// directories. How a machine is accelerated is VirtualBox's own business.
func (d *Driver) Capabilities() hypervisor.Capabilities {
	return hypervisor.Capabilities{
		Ports: true, UDP: true, Bridges: true, CPUs: 64, Memory: minMemory,
		Disk: disk.VDI, Console: "/dev/ttyS1", Control: "/dev/ttyS2",
	}
}

// Check tells whether there is a VirtualBox that is new enough and can start
// machines.
func (d *Driver) Check(ctx context.Context) error {
	_, _, err := d.Version(ctx)
	return err
}

// Start makes a machine of spec and returns once VirtualBox runs it.
func (d *Driver) Start(ctx context.Context, spec *hypervisor.Spec) (hypervisor.Machine, error) {
	vbox, err := d.find()
	if err != nil {
		return nil, err
	}
	if err := hypervisor.CheckBootable("VirtualBox", spec); err != nil {
		return nil, err
	}
	if err := d.Clean(ctx, spec.Dir); err != nil {
		return nil, err
	}
	ports, err := choosePorts(spec.Ports)
	if err != nil {
		return nil, err
	}
	log, err := serial.OpenKernelLog(spec.KernelLog)
	if err != nil {
		return nil, err
	}
	m, err := start(ctx, vbox, spec, ports)
	if err != nil {
		log.Close()
		return nil, err
	}
	m.run(ctx, log)
	return m, nil
}

// start makes the machine and switches it on. Where that fails, nothing is left
// of it.
func start(ctx context.Context, vbox manager, spec *hypervisor.Spec, ports []hypervisor.Port) (_ *machine, err error) {
	r := newRecord(spec)
	lines, err := serial.Listen(spec.Dir, "vbox-kernel", "vbox-console", "vbox-control")
	if err != nil {
		return nil, err
	}
	r.Sockets = lines.Folder
	if err := r.write(spec.Dir); err != nil {
		return nil, errors.Join(err, lines.Close(), os.RemoveAll(lines.Folder))
	}
	defer func() {
		if err != nil {
			// The machine is to go even where ctx has ended.
			err = errors.Join(err, lines.Close(), r.discard(context.WithoutCancel(ctx), vbox, spec.Dir))
		}
	}()
	for _, args := range settings(spec, r, lines.Addresses(), ports) {
		if _, err := vbox.run(ctx, args...); err != nil {
			return nil, fmt.Errorf("making a machine: %w", err)
		}
	}
	// Again, as late as can be: VirtualBox leaves out in silence what it
	// cannot forward.
	if err := checkPorts(ports); err != nil {
		return nil, err
	}
	if _, err := vbox.run(ctx, "startvm", r.UUID, "--type", "headless"); err != nil {
		return nil, explain(ctx, vbox, err)
	}
	conns, err := lines.Accept(ctx)
	if err != nil {
		return nil, err
	}
	if err := awaitForwards(ctx, ports); err != nil {
		return nil, err
	}
	control := serial.NewControl(conns[lineControl])
	return &machine{
		vbox: vbox, record: r, dir: spec.Dir, ports: ports, kernel: conns[lineKernel],
		control: control, console: serial.NewConsole(conns[lineConsole], control),
		done: make(chan struct{}),
	}, nil
}

// folder is where VirtualBox keeps what it knows of an instance's machine.
func folder(dir string) string { return filepath.Join(dir, "vbox") }
