//go:build linux

package vspheretest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/guest/api"
)

// firmware is what boots a machine whose configuration says EFI.
const firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd"

// powerHook sees machines being switched on and off.
type powerHook struct{ server *Server }

func (*powerHook) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "PowerHook", Value: "power-hook"}
}
func (*powerHook) PutObject(*simulator.Context, mo.Reference)                    {}
func (*powerHook) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}

func (h *powerHook) UpdateObject(_ *simulator.Context, o mo.Reference, changes []types.PropertyChange) {
	vm, ok := o.(*mo.VirtualMachine)
	for _, c := range changes {
		if !ok || c.Name != "runtime.powerState" {
			continue
		}
		switch c.Val {
		case types.VirtualMachinePowerStatePoweredOn:
			h.server.boot(vm)
		case types.VirtualMachinePowerStatePoweredOff:
			h.server.halt(vm.Self)
		}
	}
}

// runningMachine is a machine that is on.
type runningMachine struct {
	cmd     *exec.Cmd
	monitor string
	port    int // of this host, to the guest's
}

// boot starts a machine. What is wrong with it fails the test.
func (s *Server) boot(vm *mo.VirtualMachine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Tools != "" {
		if err := s.pretend(vm); err != nil {
			s.t.Errorf("switching on %s: %v", vm.Name, err)
		}
		return
	}
	m, err := s.prepare(vm)
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		s.t.Errorf("switching on %s: %v", vm.Name, err)
		return
	}
	s.machines[vm.Self] = m
	s.wait.Go(func() {
		m.cmd.Wait()
		s.ended(vm.Self, m)
	})
}

// pretend is the start of a machine that boots nothing.
func (s *Server) pretend(vm *mo.VirtualMachine) error {
	if s.disks[vm.Self] == "" {
		return fmt.Errorf("no disk was uploaded")
	}
	s.starts[vm.Self]++
	begin := string(api.FormatBegin(api.Begin{Address: s.options.Tools}))
	says := []string{"kernel", begin + "application"}
	for _, device := range vm.Config.Hardware.Device {
		port, ok := device.(*types.VirtualSerialPort)
		if !ok || len(says) == 0 {
			continue
		}
		file, err := s.backing(vm, port)
		if err == nil {
			err = os.WriteFile(file, fmt.Appendf(nil, "%s %d\n", says[0], s.starts[vm.Self]), 0o600)
		}
		if err != nil {
			return err
		}
		says = says[1:]
	}
	vm.Guest.IpAddress = s.options.Tools
	vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	return nil
}

// ended has the simulator know that a machine has switched itself off.
func (s *Server) ended(vm types.ManagedObjectReference, m *runningMachine) {
	s.mu.Lock()
	mine := s.machines[vm] == m
	if mine {
		delete(s.machines, vm)
	}
	s.mu.Unlock()
	if !mine {
		return // somebody has cut its power
	}
	ctx := context.Background()
	c := s.Client(ctx)
	defer c.Logout(ctx)
	task, err := object.NewVirtualMachine(c.Client, vm).PowerOff(ctx)
	if err == nil {
		err = task.Wait(ctx)
	}
	if err != nil {
		s.t.Errorf("noting that a machine has ended: %v", err)
	}
}

func (s *Server) halt(vm types.ManagedObjectReference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.machines[vm]; m != nil {
		delete(s.machines, vm)
		m.cmd.Process.Kill()
	}
}

func (s *Server) stopAll() {
	s.mu.Lock()
	for vm, m := range s.machines {
		delete(s.machines, vm)
		m.cmd.Process.Kill()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

// Dial is the address at which the guest's port of a machine is reached.
func (s *Server) Dial() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.machines {
		return fmt.Sprintf("127.0.0.1:%d", m.port)
	}
	return ""
}

// prepare makes QEMU's command line of a machine's configuration.
func (s *Server) prepare(vm *mo.VirtualMachine) (*runningMachine, error) {
	disk, err := s.disk(vm.Self)
	if err != nil {
		return nil, err
	}
	program, err := bootProgram(disk)
	if err != nil {
		return nil, err
	}
	if vm.Config.Firmware != string(types.GuestOsDescriptorFirmwareTypeEfi) {
		return nil, fmt.Errorf("its firmware is %q", vm.Config.Firmware)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	m := &runningMachine{port: port, monitor: filepath.Join(s.dir, vm.Self.Value+".qmp")}
	args := []string{
		"-accel", "tcg", "-machine", "q35", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot",
		"-m", fmt.Sprintf("%dM", vm.Config.Hardware.MemoryMB), "-smp", fmt.Sprint(vm.Config.Hardware.NumCPU),
		"-drive", "if=pflash,format=raw,readonly=on,file=" + firmware,
		"-kernel", program, "-drive", "if=none,id=disk,format=raw,file=" + disk,
		"-netdev", fmt.Sprintf("user,id=net,hostfwd=tcp:127.0.0.1:%d-:%d", port, s.options.Guest),
		"-qmp", "unix:" + m.monitor + ",server=on,wait=off",
	}
	for _, device := range vm.Config.Hardware.Device {
		switch d := device.(type) {
		case *types.ParaVirtualSCSIController:
			args = append(args, "-device", "pvscsi,id=scsi", "-device", "scsi-hd,drive=disk,bus=scsi.0")
		case *types.VirtualVmxnet3:
			args = append(args, "-device", "vmxnet3,netdev=net,romfile=")
		case *types.VirtualSerialPort:
			file, err := s.backing(vm, d)
			if err != nil {
				return nil, err
			}
			args = append(args, "-serial", "file:"+file)
		}
	}
	m.cmd = exec.Command("qemu-system-x86_64", args...)
	m.cmd.Stderr = os.Stderr
	return m, nil
}

// backing is the file of a serial port. ESXi asks somebody before it writes to
// one that is there.
func (s *Server) backing(vm *mo.VirtualMachine, port *types.VirtualSerialPort) (string, error) {
	b, ok := port.Backing.(*types.VirtualSerialPortFileBackingInfo)
	if !ok {
		return "", fmt.Errorf("a serial port is %T", port.Backing)
	}
	var at object.DatastorePath
	at.FromString(b.FileName)
	for _, ref := range vm.Datastore {
		d := s.model.Map().Get(ref).(*simulator.Datastore)
		if d.Name != at.Datastore {
			continue
		}
		file := filepath.Join(d.Summary.Url, at.Path)
		if _, err := os.Stat(file); err == nil {
			return "", fmt.Errorf("the file of a serial port exists: %s", b.FileName)
		}
		return file, nil
	}
	return "", fmt.Errorf("a serial port's file is on another datastore: %s", b.FileName)
}

// disk is a machine's disk as QEMU takes it, made of the upload at the first
// start. The upload has to be what it says it is.
func (s *Server) disk(vm types.ManagedObjectReference) (string, error) {
	upload := s.disks[vm]
	if upload == "" {
		return "", fmt.Errorf("no disk was uploaded")
	}
	disk := filepath.Join(s.dir, vm.Value+".raw")
	if _, err := os.Stat(disk); err == nil {
		return disk, nil
	}
	info, err := exec.Command("qemu-img", "info", "-f", "vmdk", "--output=json", upload).CombinedOutput()
	if err != nil || !strings.Contains(string(info), `"create-type": "streamOptimized"`) {
		return "", fmt.Errorf("the upload is no streamOptimized disk: %v: %s", err, info)
	}
	if out, err := exec.Command("qemu-img", "convert", "-f", "vmdk", "-O", "raw", upload, disk).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %s", err, out)
	}
	return disk, nil
}

// bootProgram copies out of a disk what its firmware loads from it (UEFI 2.10,
// 3.5.1.1). Debian's OVMF has no driver for VMware's SCSI controller, which
// VMware's firmware has, and is handed the program.
func bootProgram(disk string) (string, error) {
	f, err := os.Open(disk)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var entry [40]byte // of the first partition, which starts at a sector
	if _, err := f.ReadAt(entry[:], 2*512); err != nil {
		return "", err
	}
	start := binary.LittleEndian.Uint64(entry[32:]) * 512
	program := disk + ".efi"
	out, err := exec.Command("mcopy", "-n", "-o", "-i", fmt.Sprintf("%s@@%d", disk, start), "::/EFI/BOOT/BOOTX64.EFI", program).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("the disk does not boot: mcopy: %v: %s", err, out)
	}
	return program, nil
}

// interrupt sends the machine a non-maskable interrupt.
func (m *runningMachine) interrupt() error {
	conn, err := net.Dial("unix", m.monitor)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, `{"execute":"qmp_capabilities"}{"execute":"inject-nmi","id":"nmi"}`); err != nil {
		return err
	}
	for d := json.NewDecoder(conn); ; {
		var answer struct {
			ID    string
			Error any
		}
		if err := d.Decode(&answer); err != nil {
			return err
		}
		if answer.Error != nil {
			return fmt.Errorf("%v", answer.Error)
		}
		if answer.ID == "nmi" {
			return nil
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
