package vsphere

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/internal/hypervisor"
)

// abortBound bounds what is done after a command was interrupted.
const abortBound = 20 * time.Second

func (s *session) status(ctx context.Context, m *machine) (hypervisor.RemoteStatus, error) {
	var vm mo.VirtualMachine
	if err := m.Properties(ctx, m.Reference(), []string{"runtime", "guest"}, &vm); err != nil {
		return hypervisor.RemoteStatus{}, explain(s.host, "asking for the machine's state", err)
	}
	status := hypervisor.RemoteStatus{On: vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn}
	if !status.On {
		return status, nil
	}
	if vm.Runtime.BootTime != nil {
		status.Started = *vm.Runtime.BootTime
	}
	if vm.Guest != nil { // known where something in the guest tells it
		if addr, err := netip.ParseAddr(vm.Guest.IpAddress); err == nil {
			status.Address = addr
		}
	}
	return status, nil
}

// await waits for the end of a task. Where ctx is cancelled, govmomi says that the
// task is done, or what it could not tidy up.
func await(ctx context.Context, task *object.Task) error {
	err := task.Wait(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// home is the machine's directory on the datastore.
func (s *session) home(ctx context.Context, m *machine) (string, error) {
	var vm mo.VirtualMachine
	if err := m.Properties(ctx, m.Reference(), []string{"config.files.vmPathName"}, &vm); err != nil {
		return "", explain(s.host, "asking for the machine's directory", err)
	}
	if vm.Config == nil {
		return "", &hypervisor.RemoteError{Platform: Name, Err: errors.New("the machine has no directory")}
	}
	file := vm.Config.Files.VmPathName // "[datastore] directory/name.vmx"
	at := strings.LastIndexByte(file, '/')
	if at < 0 {
		return "", &hypervisor.RemoteError{Platform: Name, Err: errors.New("the machine has no directory of its own")}
	}
	return file[:at], nil
}

// Start switches the machine on. The files of its last run go before: where a
// serial port's file exists, ESXi asks somebody what to do.
func (d *Driver) Start(ctx context.Context, doc hypervisor.Handle) error {
	s, m, err := d.machine(ctx, doc)
	if err != nil {
		return err
	}
	status, err := s.status(ctx, m)
	if err != nil || status.On {
		return err
	}
	if err := s.deleteFiles(ctx, m.handle, m.Home+"/"+consoleLog, m.Home+"/"+kernelLog); err != nil {
		return err
	}
	task, err := m.PowerOn(ctx)
	if err == nil {
		err = await(ctx, task)
	}
	return explain(s.host, "switching the machine on", err)
}

// Stop asks the guest to end and, if it has not after grace, cuts the power.
func (d *Driver) Stop(ctx context.Context, doc hypervisor.Handle, grace time.Duration) error {
	s, m, err := d.machine(ctx, doc)
	if err != nil {
		return err
	}
	status, err := s.status(ctx, m)
	if err != nil || !status.On {
		return err
	}
	if grace > 0 && s.ask(ctx, m) == nil {
		bound, cancel := context.WithTimeout(ctx, grace)
		err := m.WaitForPowerState(bound, types.VirtualMachinePowerStatePoweredOff)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return s.cut(ctx, m)
}

// ask asks the guest to end: through VMware's tools where somebody has put
// them into the image, else by an interrupt that PID 1 takes for that.
func (s *session) ask(ctx context.Context, m *machine) error {
	if running, err := m.IsToolsRunning(ctx); err == nil && running {
		return m.ShutdownGuest(ctx)
	}
	_, err := methods.SendNMI(ctx, s.Client, &types.SendNMI{This: m.Reference()})
	return err
}

// cut cuts the power.
func (s *session) cut(ctx context.Context, m *machine) error {
	task, err := m.PowerOff(ctx)
	if err == nil {
		err = await(ctx, task)
	}
	if _, off := faultOf(err).(*types.InvalidPowerState); off {
		return nil // it has ended by itself meanwhile
	}
	return explain(s.host, "cutting the machine's power", err)
}

// Remove destroys the machine, with its disk and the files of its consoles.
func (d *Driver) Remove(ctx context.Context, doc hypervisor.Handle) error {
	h, err := parseHandle(doc)
	if err != nil {
		return err
	}
	s, m, err := d.machine(ctx, doc)
	if err == nil {
		h.Home, err = s.destroy(ctx, m)
	}
	if err != nil && !errors.Is(err, hypervisor.ErrGone) {
		return err
	}
	if h.Home == "" {
		return nil
	}
	return s.deleteFiles(ctx, h, h.Home)
}

// destroy destroys a machine, and returns the directory that it had.
func (s *session) destroy(ctx context.Context, m *machine) (home string, err error) {
	if err := s.abandon(ctx, m.handle); err != nil {
		return m.Home, err
	}
	status, err := s.status(ctx, m)
	if err == nil && status.On {
		err = s.cut(ctx, m)
	}
	if err == nil && m.Home == "" {
		m.Home, err = s.home(ctx, m)
	}
	if err == nil {
		var task *object.Task
		if task, err = m.Destroy(ctx); err == nil {
			err = await(ctx, task)
		}
		err = explain(s.host, "removing the machine", err)
	}
	return m.Home, err
}

// deleteFiles deletes files and directories of a datastore; "[datastore] name".
func (s *session) deleteFiles(ctx context.Context, h handle, files ...string) error {
	dc, err := s.finder().Datacenter(ctx, h.Datacenter)
	if err != nil {
		return explain(s.host, "looking for the datacenter", err)
	}
	manager := object.NewFileManager(s.Client)
	for _, file := range files {
		task, err := manager.DeleteDatastoreFile(ctx, file, dc)
		if err == nil {
			err = await(ctx, task)
		}
		if _, none := faultOf(err).(*types.FileNotFound); err != nil && !none && !errors.Is(err, os.ErrNotExist) {
			return explain(s.host, "deleting "+file, err)
		}
	}
	return nil
}
