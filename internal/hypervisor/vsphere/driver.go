// Package vsphere runs instances on VMware vSphere: on a lone ESXi host, or in
// a vCenter. Virtual machines live on there by themselves; what capstan knows
// of one is its name, its ID in the inventory and where its files are.
//
// The disk goes there through an NFC lease, as clients of VMware's send theirs,
// straight from the composer. Nothing of VMware's is in the guest: its address
// comes from its console, which is a file on the datastore, and what asks it to
// stop is a non-maskable interrupt.
package vsphere

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"capstan/internal/hypervisor"
	"capstan/internal/image/disk"
)

// Name is the platform's.
const Name = "vsphere"

// minMemory is what VMware's EFI firmware and the guest surely come up with, in
// bytes.
const minMemory = 256 << 20

// Options say which server to talk to, and where on it machines are made. The
// names are as govc has them, from GOVC_URL on. What is "" is found where there
// is one choice only.
type Options struct {
	URL, Username, Password string
	// PasswordFile holds the password and is nobody else's to read.
	PasswordFile string
	// Insecure, where it is true, has the server's certificate not checked.
	Insecure string
	// CACerts are files of certificates of authorities, KnownHosts is one of
	// certificates' thumbprints.
	CACerts, KnownHosts string

	Datacenter, Datastore, Network, Folder string
	ResourcePool, Cluster, Host            string
}

// Driver is the platform.
type Driver struct {
	options Options

	mu      sync.Mutex
	session *session // nil until it is needed
}

// New returns the driver. It connects when it has to.
func New(o Options) *Driver { return &Driver{options: o} }

// Name is the platform's, as --on takes it.
func (*Driver) Name() string { return Name }

// Capabilities are what vSphere can do.
func (*Driver) Capabilities() hypervisor.Capabilities {
	// ESXi 6.5 and later give a machine 128 CPUs; hardware version 13 that this
	// package asks for came with it.
	return hypervisor.Capabilities{Away: true, CPUs: 128, Memory: minMemory, Disk: disk.VMDK, Console: consolePort}
}

// handle is what is known of a machine. Of one that is not made yet, VM, Lease
// and Home are "".
type handle struct {
	ID         string `json:"id"` // the instance's, which the machine carries
	Server     string `json:"server"`
	Datacenter string `json:"datacenter"` // inventory paths
	Folder     string `json:"folder"`
	Datastore  string `json:"datastore"`
	Name       string `json:"name"` // in the folder
	VM         string `json:"vm,omitempty"`
	Lease      string `json:"lease,omitempty"` // of the disk's upload
	Home       string `json:"home,omitempty"`  // the machine's directory: "[datastore] directory"
}

func parseHandle(doc hypervisor.Handle) (handle, error) {
	var h handle
	if err := json.Unmarshal(doc, &h); err != nil || h.ID == "" || h.Name == "" {
		return h, fmt.Errorf("%s: the instance's handle is damaged", Name)
	}
	return h, nil
}

func (h handle) document() (hypervisor.Handle, error) { return json.Marshal(h) }

// Configured tells whether a server is named, or who logs in there.
func (d *Driver) Configured() bool {
	return d.options.URL+d.options.Username+d.options.PasswordFile != ""
}

// Probe logs in, and tells what the server is.
func (d *Driver) Probe(ctx context.Context) (string, error) {
	s, err := d.connect(ctx)
	if err != nil {
		return "", err
	}
	return s.ServiceContent.About.FullName + " at " + s.host, nil
}

// Status asks for the machine's state.
func (d *Driver) Status(ctx context.Context, doc hypervisor.Handle) (hypervisor.RemoteStatus, error) {
	s, vm, err := d.machine(ctx, doc)
	if err != nil {
		return hypervisor.RemoteStatus{}, err
	}
	return s.status(ctx, vm)
}

// Close ends the session with the server, where there is one.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s := d.session
	d.session = nil
	return s.logout(ctx)
}
