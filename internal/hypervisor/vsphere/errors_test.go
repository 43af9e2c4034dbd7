package vsphere

import (
	"errors"
	"testing"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/internal/hypervisor"
)

// TestNoRoom: a datastore that fills up is named, with the way out.
func TestNoRoom(t *testing.T) {
	for want, fault := range map[string]types.BaseMethodFault{
		"vsphere: uploading the disk: the datastore small is full": &types.NoDiskSpace{Datastore: "small"},
		"vsphere: uploading the disk: the datastore is full":       &types.InsufficientStorageSpace{},
	} {
		err := explain("esxi", "uploading the disk", task.Error{LocalizedMethodFault: &types.LocalizedMethodFault{Fault: fault}})
		var told *hypervisor.RemoteError
		if !errors.As(err, &told) || err.Error() != want || told.Hint() != "make room there, or another one: GOVC_DATASTORE=NAME" {
			t.Errorf("%T: %v; want %s", fault, err, want)
		}
	}
}
