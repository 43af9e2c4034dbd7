//go:build linux

package vsphere

import (
	"context"
	"errors"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"

	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// interrupting cancels what asks for news.
type interrupting struct {
	soap.RoundTripper
	interrupt func()
}

func (i interrupting) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	if _, asks := req.(*methods.WaitForUpdatesExBody); asks {
		i.interrupt()
	}
	return i.RoundTripper.RoundTrip(ctx, req, res)
}

// TestInterruptedTask: a task of whose end nobody has heard is not done; this one
// fails.
func TestInterruptedTask(t *testing.T) {
	c := vspheretest.Start(t, vspheretest.Options{}).Client(t.Context())
	dc, err := find.NewFinder(c.Client).DefaultDatacenter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	task, err := object.NewFileManager(c.Client).DeleteDatastoreFile(t.Context(), "[LocalDS_0] none", dc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.Client.RoundTripper = interrupting{c.Client.RoundTripper, cancel}
	if err := await(ctx, task); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
