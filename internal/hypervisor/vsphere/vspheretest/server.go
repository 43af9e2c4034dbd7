//go:build linux

// Package vspheretest is a whole vSphere for tests: VMware's simulator (govmomi)
// behind TLS, with machines that run. What a client uploads through a lease,
// which the simulator throws away, is kept; a machine that is switched on
// boots it under QEMU, with the firmware, the devices and the serial ports
// that its configuration has by then.
package vspheretest

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// User and Password are who may log in.
const User, Password = "administrator", "secret-of-the-test"

// Options say what kind of server it is.
type Options struct {
	// VCenter is a vCenter with hosts and a cluster, in the place of an ESXi.
	VCenter bool
	// Guest is a port of the guest's that Server.Dial reaches.
	Guest int
	// Upload, if it is there, sees every upload before it is read, and returns
	// true where it has answered.
	Upload func(w http.ResponseWriter, r *http.Request) bool
	// Tools is an address. Where there is one, machines that are on boot
	// nothing: each says "kernel N" and, as PID 1 and an application do, that
	// it has begun and "application N" on its serial ports, at its Nth start,
	// and is one with VMware's tools in it, by which the server knows this
	// address.
	Tools string
	// Model, if it is there, changes what the server has.
	Model func(*simulator.Model)
}

// Server is a running server.
type Server struct {
	URL    string // without user and password
	CAFile string // its certificate's authority

	t       testing.TB
	options Options
	dir     string
	model   *simulator.Model
	inner   *url.URL

	mu       sync.Mutex
	importer *simulator.Context                               // of the last import
	uploads  map[string]string                                // by lease: the file
	disks    map[types.ManagedObjectReference]string          // by machine
	machines map[types.ManagedObjectReference]*runningMachine // those that are on
	starts   map[types.ManagedObjectReference]int             // of machines that boot nothing
	wait     sync.WaitGroup
}

// Start starts a server, which ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{
		t: t, options: o, dir: t.TempDir(), model: simulator.ESX(), uploads: map[string]string{},
		disks: map[types.ManagedObjectReference]string{}, machines: map[types.ManagedObjectReference]*runningMachine{},
		starts: map[types.ManagedObjectReference]int{},
	}
	if o.VCenter {
		s.model = simulator.VPX()
	}
	s.model.Machine = 0
	if o.Model != nil {
		o.Model(s.model)
	}
	if err := s.model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.model.Remove)
	s.model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(User, Password)}
	inner := s.model.Service.NewServer()
	t.Cleanup(inner.Close)
	s.inner = inner.URL
	front := httptest.NewTLSServer(s.front())
	t.Cleanup(front.Close)
	t.Cleanup(s.stopAll)
	s.URL = front.URL + "/sdk"
	s.CAFile = filepath.Join(s.dir, "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(s.CAFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range s.model.Map().OptionManager().Setting {
		if v := o.GetOptionValue(); v.Key == "vcsim.server.url" { // where leases send uploads
			v.Value = front.URL
		}
	}
	s.model.Map().AddHandler(&powerHook{s})
	s.model.Map().Handler = s.intercept
	return s
}

// Env is the environment of a client that may use the server.
func (s *Server) Env() []string {
	return []string{"GOVC_URL=" + s.URL, "GOVC_USERNAME=" + User, "GOVC_PASSWORD=" + Password, "GOVC_TLS_CA_CERTS=" + s.CAFile}
}

// front keeps what is uploaded, and passes everything on.
func (s *Server) front() http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.inner.Host})
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/nfc/") {
			proxy.ServeHTTP(w, r)
			return
		}
		if s.options.Upload != nil && s.options.Upload(w, r) {
			return
		}
		lease := path.Base(path.Dir(r.URL.Path))
		file := filepath.Join(s.dir, lease+".vmdk")
		if err := keep(file, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.mu.Lock()
		s.uploads[lease] = file
		s.mu.Unlock()
	})
}

// keep stores an upload that says what it is and how long.
func keep(file string, r *http.Request) error {
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-vnd.vmware-streamVmdk" || r.ContentLength <= 0 {
		return fmt.Errorf("%s of a %s of %d bytes is no upload of a disk", r.Method, r.Header.Get("Content-Type"), r.ContentLength)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r.Body)
	return errors.Join(err, f.Close())
}

// intercept sees each call of the API before the simulator. It notes whose disk
// an upload was, and adds what the simulator lacks.
func (s *Server) intercept(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	switch m.Name {
	case "ImportVApp":
		s.mu.Lock()
		s.importer = ctx
		s.mu.Unlock()
	case "HttpNfcLeaseComplete":
		if lease, ok := ctx.Session.Get(m.This).(*simulator.HttpNfcLease); ok && lease.Info != nil {
			s.mu.Lock()
			s.disks[lease.Info.Entity] = s.uploads[m.This.Value]
			s.mu.Unlock()
		}
	case "SendNMI":
		// What the session has of this reference counts before the machine.
		ctx.Session.Registry.Put(&interrupter{s, m.This})
	}
	return nil, nil
}

// Fail ends the lease of an upload with a fault, as a server does that cannot
// keep what it is sent.
func (s *Server) Fail(upload *http.Request, fault types.BaseMethodFault) {
	s.mu.Lock()
	ctx := s.importer
	s.mu.Unlock()
	lease := ctx.Session.Get(types.ManagedObjectReference{Type: "HttpNfcLease", Value: path.Base(path.Dir(upload.URL.Path))})
	ctx.WithLock(lease, func() {
		ctx.Update(lease, []types.PropertyChange{
			{Name: "state", Val: types.HttpNfcLeaseStateError},
			{Name: "error", Val: &types.LocalizedMethodFault{Fault: fault}},
		})
	})
}

// interrupter is a machine that can be sent an interrupt.
type interrupter struct {
	server *Server
	self   types.ManagedObjectReference
}

func (i *interrupter) Reference() types.ManagedObjectReference { return i.self }

// SendNMI is the API's method.
func (i *interrupter) SendNMI(ctx *simulator.Context, _ *types.SendNMI) soap.HasFault {
	ctx.Session.Registry.Remove(ctx, i.self)
	body := &methods.SendNMIBody{}
	i.server.mu.Lock()
	m := i.server.machines[i.self]
	i.server.mu.Unlock()
	if m == nil {
		body.Fault_ = simulator.Fault("", &types.InvalidPowerState{ExistingState: types.VirtualMachinePowerStatePoweredOff})
		return body
	}
	if err := m.interrupt(); err != nil {
		body.Fault_ = simulator.Fault(err.Error(), &types.InvalidState{})
		return body
	}
	body.Res = &types.SendNMIResponse{}
	return body
}

// Client is a client of the API's, for looking at what is there.
func (s *Server) Client(ctx context.Context) *govmomi.Client {
	s.t.Helper()
	u := *s.inner
	u.User = url.UserPassword(User, Password)
	c, err := govmomi.NewClient(ctx, &u, true)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// Left lists what capstan has made and not removed: machines, and files on the
// datastores.
func (s *Server) Left(ctx context.Context) []string {
	s.t.Helper()
	c := s.Client(ctx)
	defer c.Logout(ctx)
	f := find.NewFinder(c.Client, true)
	var left []string
	var missing *find.NotFoundError
	vms, err := f.VirtualMachineList(ctx, "/...")
	if err != nil && !errors.As(err, &missing) {
		s.t.Fatal(err)
	}
	for _, vm := range vms {
		left = append(left, "machine "+vm.InventoryPath)
	}
	stores, err := f.DatastoreList(ctx, "/...")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range stores {
		left = append(left, s.files(ctx, d)...)
	}
	return left
}

// files lists what is on a datastore.
func (s *Server) files(ctx context.Context, d *object.Datastore) []string {
	s.t.Helper()
	browser, err := d.Browser(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	task, err := browser.SearchDatastoreSubFolders(ctx, d.Path(""), &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"*"}})
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	var left []string
	for _, folder := range info.Result.(types.ArrayOfHostDatastoreBrowserSearchResults).HostDatastoreBrowserSearchResults {
		for _, file := range folder.File {
			left = append(left, "file "+folder.FolderPath+file.GetFileInfo().Path)
		}
	}
	return left
}
