package vmware

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
const Name = "vmware"

// minMemory is what VMware's EFI firmware and the guest surely come up with, in
// bytes.
const minMemory = 256 << 20

// Options are what a user can set.
type Options struct {
	// Path is vmrun: a path or a name to look up in the PATH. "" takes the
	// PATH's, else one of the usual places.
	Path string
}

// Driver is the driver of VMware's desktop hypervisors.
type Driver struct{ options Options }

var (
	_ hypervisor.Driver  = (*Driver)(nil)
	_ hypervisor.Cleaner = (*Driver)(nil)
)

// New makes a driver. It looks for nothing yet.
func New(options Options) *Driver { return &Driver{options} }

// Name is "vmware".
func (d *Driver) Name() string { return Name }

// Capabilities are those of machines without VMware's tools, which would share
// directories. How a machine is accelerated is VMware's own business.
func (d *Driver) Capabilities() hypervisor.Capabilities {
	return hypervisor.Capabilities{
		CPUs: 16, Memory: minMemory,
		Disk: disk.VMDK, Console: "/dev/ttyS1", Control: "/dev/ttyS2",
	}
}

// Check tells whether there is a VMware that answers.
func (d *Driver) Check(ctx context.Context) error {
	v, err := d.find()
	if err != nil {
		return err
	}
	if _, err := v.list(ctx); err != nil {
		return unavailable(err.Error())
	}
	return nil
}

// Start makes a machine of spec and returns once VMware runs it.
func (d *Driver) Start(ctx context.Context, spec *hypervisor.Spec) (hypervisor.Machine, error) {
	v, err := d.find()
	if err != nil {
		return nil, err
	}
	if err := hypervisor.CheckBootable("VMware", spec); err != nil {
		return nil, err
	}
	if err := d.Clean(ctx, spec.Dir); err != nil {
		return nil, err
	}
	log, err := serial.OpenKernelLog(spec.KernelLog)
	if err != nil {
		return nil, err
	}
	m, err := start(ctx, v, spec)
	if err != nil {
		log.Close()
		return nil, err
	}
	m.run(ctx, log)
	return m, nil
}

// start makes the machine and switches it on. Where that fails, nothing is left
// of it.
func start(ctx context.Context, v vmrun, spec *hypervisor.Spec) (_ *machine, err error) {
	f := folder{spec.Dir}
	if err := os.Mkdir(f.path(), 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for the machine: %w", err)
	}
	defer func() {
		if err != nil {
			// The machine is to go even where ctx has ended.
			err = errors.Join(err, f.discard(context.WithoutCancel(ctx), v))
		}
	}()
	lines, err := f.listen()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lines.Close())
		}
	}()
	text, err := settings(spec, newUUID(), lines.Addresses())
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(f.vmx(), text, 0o600); err != nil {
		return nil, fmt.Errorf("making a machine: %w", err)
	}
	if _, err := v.run(ctx, "start", f.vmx(), "nogui"); err != nil {
		return nil, fmt.Errorf("starting the machine: %w", err)
	}
	conns, err := lines.Accept(ctx)
	if err != nil {
		return nil, fmt.Errorf("waiting for VMware to connect the machine's serial ports: %w", err)
	}
	control := serial.NewControl(conns[lineControl])
	return &machine{
		vmrun: v, folder: f, kernel: conns[lineKernel],
		control: control, console: serial.NewConsole(conns[lineConsole], control),
		done: make(chan struct{}),
	}, nil
}

// Clean ends the machine that a killed process has left behind. It costs nothing
// where there is none.
func (d *Driver) Clean(ctx context.Context, dir string) error {
	f := folder{dir}
	if _, err := os.Stat(f.path()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	v, err := d.find()
	if err != nil {
		return err
	}
	return f.discard(ctx, v)
}

// folder is what a machine is, in an instance's directory.
type folder struct{ dir string }

func (f folder) path() string { return filepath.Join(f.dir, "vmware") }
func (f folder) vmx() string  { return filepath.Join(f.path(), "machine.vmx") }

// sockets is a file that says where the machine's sockets are, if not in the
// folder, whose path may be too long for that.
func (f folder) sockets() string { return filepath.Join(f.path(), "sockets") }

// listen makes the sockets for the machine's serial ports.
func (f folder) listen() (*serial.Lines, error) {
	lines, err := serial.Listen(f.path(), "kernel", "console", "control")
	if err != nil {
		return nil, err
	}
	if lines.Folder != "" {
		if err := os.WriteFile(f.sockets(), []byte(lines.Folder), 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("making a machine: %w", err), lines.Close(), os.RemoveAll(lines.Folder))
		}
	}
	return lines, nil
}

// discard ends the machine and deletes what there is of it.
func (f folder) discard(ctx context.Context, v vmrun) error {
	if err := v.stop(ctx, f.vmx()); err != nil {
		return err
	}
	elsewhere, err := os.ReadFile(f.sockets())
	if err == nil && serial.IsFolder(string(elsewhere)) {
		err = os.RemoveAll(string(elsewhere))
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, os.RemoveAll(f.path())); err != nil {
		return fmt.Errorf("removing what VMware has made: %w", err)
	}
	return nil
}
