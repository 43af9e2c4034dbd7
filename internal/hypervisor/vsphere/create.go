package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/internal/hypervisor"
	"capstan/internal/image/disk/vmdk"
)

// Create makes a machine: a virtual machine with the disk that boots it.
func (d *Driver) Create(ctx context.Context, spec *hypervisor.RemoteSpec, keep func(hypervisor.Handle) error) error {
	s, err := d.connect(ctx)
	if err != nil {
		return err
	}
	p, err := s.place(ctx, !spec.Guest.Network.None)
	if err != nil {
		return err
	}
	folder, err := object.NewFolder(s.Client, p.folder.Reference()).ObjectName(ctx)
	if err != nil {
		return explain(s.host, "looking for the folder", err)
	}
	h := handle{
		ID: spec.ID, Server: s.host, Name: spec.Name + "-" + spec.ID,
		Datacenter: p.datacenter.InventoryPath, Folder: p.folder.InventoryPath, Datastore: p.datastore.Name(),
	}
	if h.Folder == "" {
		h.Folder = path.Join(h.Datacenter, folder)
	}
	save := func() error {
		doc, err := h.document()
		if err == nil {
			err = keep(doc)
		}
		return err
	}
	if err := save(); err != nil {
		return err
	}
	guest := spec.Guest
	guest.StopByNMI = true
	boot, err := spec.Disk(guest)
	if err != nil {
		return err
	}
	u := &upload{session: s, disk: boot, progress: spec.Progress}
	if err := u.measure(ctx); err != nil {
		return err
	}
	imported, err := s.importSpec(ctx, p, h, spec, u)
	if err != nil {
		return err
	}
	lease, err := p.pool.ImportVApp(ctx, imported.ImportSpec, p.folder, p.host)
	if err != nil {
		return explain(s.host, "making the machine", err)
	}
	err = u.send(ctx, lease, imported.FileItem, func(vm types.ManagedObjectReference) error {
		h.VM, h.Lease = vm.Value, lease.Reference().Value
		return save()
	})
	if err != nil {
		return err
	}
	h.Home, err = s.finish(ctx, h)
	if err != nil {
		return err
	}
	h.Lease = ""
	return save()
}

// importSpec is what the server makes of the machine's description, and what
// this package adds to it.
func (s *session) importSpec(ctx context.Context, p place, h handle, spec *hypervisor.RemoteSpec, u *upload) (*types.OvfCreateImportSpecResult, error) {
	if s.ServiceContent.OvfManager == nil {
		return nil, &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("%s imports no machines", s.host)}
	}
	var networks []types.OvfNetworkMapping
	if p.network != nil {
		networks = []types.OvfNetworkMapping{{Name: ovfNetwork, Network: p.network.Reference()}}
	}
	res, err := methods.CreateImportSpec(ctx, s.Client, &types.CreateImportSpec{
		This: *s.ServiceContent.OvfManager, OvfDescriptor: descriptor(h.Name, spec, u.disk.Size, u.size),
		ResourcePool: p.pool.Reference(), Datastore: p.datastore.Reference(),
		Cisp: &types.OvfCreateImportSpecParams{
			EntityName: h.Name, DiskProvisioning: string(types.OvfCreateImportSpecParamsDiskProvisioningTypeThin),
			NetworkMapping: networks,
		},
	})
	if err != nil {
		return nil, explain(s.host, "describing the machine", err)
	}
	result := &res.Returnval
	if len(result.Error) > 0 {
		return nil, &hypervisor.RemoteError{Platform: Name, Doing: "describing the machine", Err: errors.New(result.Error[0].LocalizedMessage)}
	}
	vm, ok := result.ImportSpec.(*types.VirtualMachineImportSpec)
	if !ok {
		return nil, fmt.Errorf("%s: %s makes a %T of the machine", Name, s.host, result.ImportSpec)
	}
	vm.ConfigSpec.Annotation = fmt.Sprintf("%s, made by capstan of the image %s (%s)", spec.Name, spec.Image, spec.Digest)
	for key, value := range map[string]string{keyInstance: spec.ID, "capstan.image": spec.Image, "capstan.digest": spec.Digest} {
		vm.ConfigSpec.ExtraConfig = append(vm.ConfigSpec.ExtraConfig, &types.OptionValue{Key: key, Value: value})
	}
	return result, nil
}

// keyInstance is where a machine's configuration has the instance's ID.
const keyInstance = "capstan.instance"

// upload sends a disk.
type upload struct {
	*session
	disk     hypervisor.BootDisk
	progress func(what string, done, total int64)
	size     int64 // of what is sent
}

// write writes the disk as it is sent.
func (u *upload) write(ctx context.Context, w io.Writer) error {
	stream, err := vmdk.NewStream(w, u.disk.Size, vmdk.Options{})
	if err == nil {
		err = u.disk.Write(ctx, stream)
	}
	if err == nil {
		err = stream.Close()
	}
	return err
}

// measure writes the disk to nowhere: a lease is told the size of what comes,
// and the disk is the same each time. That takes a CPU's time once more, and
// no room for a copy.
func (u *upload) measure(ctx context.Context) error {
	var n counter
	err := u.write(ctx, &n)
	u.size = int64(n)
	return err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// send sends the disk through a lease. After an error nothing is left of the
// lease; whether something is left of the machine is for Remove to see.
func (u *upload) send(ctx context.Context, lease *nfc.Lease, items []types.OvfFileItem, made func(vm types.ManagedObjectReference) error) error {
	info, err := lease.Wait(ctx, items)
	if err == nil {
		err = made(info.Entity)
	}
	if err == nil && len(info.Items) != 1 {
		err = fmt.Errorf("%s wants %d disks in the place of 1", u.host, len(info.Items))
	}
	if err == nil {
		err = u.stream(ctx, lease, info)
	}
	if err == nil {
		err = lease.Complete(ctx)
	}
	if err == nil {
		return nil
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortBound)
	defer cancel()
	if ctx.Err() == nil {
		err = because(after, lease, err)
	}
	_ = lease.Abort(after, nil) // one that has ended needs none
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return explain(u.host, "uploading the disk", err)
}

// stream sends the disk as it is composed.
func (u *upload) stream(ctx context.Context, lease *nfc.Lease, info *nfc.LeaseInfo) error {
	var renewing sync.WaitGroup
	defer renewing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	composed := make(chan error, 1)
	go func() {
		err := u.write(ctx, w)
		w.CloseWithError(err)
		composed <- err
	}()
	sent := &sending{r: r, upload: u}
	u.tell(0)
	renewing.Go(func() { u.renew(ctx, lease, &sent.done) })
	// Not lease.Upload: its reader panics where a server answers before it has
	// read all, as one without room does.
	err := u.post(ctx, sent, info.Items[0].URL.String())
	r.CloseWithError(io.ErrClosedPipe)
	if why := <-composed; err != nil && why != nil && !errors.Is(why, io.ErrClosedPipe) {
		return why // that is why the upload ended
	}
	return err
}

// post is the request that an upload is.
func (u *upload) post(ctx context.Context, body io.Reader, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	req.ContentLength = u.size
	req.Header.Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	return u.Do(ctx, req, func(res *http.Response) error {
		switch res.StatusCode {
		case http.StatusOK, http.StatusCreated:
			return nil
		case http.StatusInsufficientStorage:
			return errFull
		}
		return errors.New(res.Status)
	})
}

// renew keeps a lease from its end until ctx is done, by telling how much was
// sent. Of a lease that is lost the upload itself tells.
func (u *upload) renew(ctx context.Context, lease *nfc.Lease, sent *atomic.Int64) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(renewEvery):
			_ = lease.Progress(ctx, int32(100*sent.Load()/max(u.size, 1)))
		}
	}
}

// renewEvery is far below the time after which vSphere ends a lease, 300 s by default.
const renewEvery = 2 * time.Second

func (u *upload) tell(done int64) {
	if u.progress != nil {
		u.progress("uploading", done, u.size)
	}
}

// sending tells how much of the disk was sent.
type sending struct {
	r      io.Reader
	upload *upload
	done   atomic.Int64
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 {
		s.upload.tell(s.done.Add(int64(n)))
	}
	return n, err
}

// finish gives an imported machine what an import does not: its firmware, and
// serial ports that are files beside its disk.
func (s *session) finish(ctx context.Context, h handle) (home string, err error) {
	vm, err := s.find(ctx, h)
	if err != nil {
		return "", err
	}
	if home, err = s.home(ctx, vm); err != nil {
		return "", err
	}
	devices, err := vm.Device(ctx)
	if err != nil {
		return "", explain(s.host, "reading the machine's devices", err)
	}
	change, err := serialPorts(devices, home)
	if err != nil {
		return "", fmt.Errorf("%s: giving the machine serial ports: %w", Name, err)
	}
	task, err := vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{
		Firmware: string(types.GuestOsDescriptorFirmwareTypeEfi), DeviceChange: change,
		BootOptions: &types.VirtualMachineBootOptions{EfiSecureBootEnabled: types.NewBool(false)},
	})
	if err == nil {
		err = await(ctx, task)
	}
	return home, explain(s.host, "configuring the machine", err)
}

// serialPorts adds the ports of the kernel and of the application, in this
// order.
func serialPorts(devices object.VirtualDeviceList, home string) ([]types.BaseVirtualDeviceConfigSpec, error) {
	var ports object.VirtualDeviceList
	for _, file := range []string{kernelLog, consoleLog} {
		port, err := devices.CreateSerialPort()
		if err != nil {
			return nil, err
		}
		port.Key = devices.NewKey()
		port.Backing = &types.VirtualSerialPortFileBackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: home + "/" + file},
		}
		devices, ports = append(devices, port), append(ports, port)
	}
	return ports.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
}
