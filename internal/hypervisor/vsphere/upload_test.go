//go:build linux

package vsphere_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/vsphere"
	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// TestFullWhileUploading: a datastore that fills up in the middle of an upload is
// said to be full, whether by the lease or by HTTP.
func TestFullWhileUploading(t *testing.T) {
	var s *vspheretest.Server
	var fault types.BaseMethodFault
	var status int
	s = vspheretest.Start(t, vspheretest.Options{Upload: func(w http.ResponseWriter, r *http.Request) bool {
		io.Copy(io.Discard, r.Body)
		if fault != nil {
			s.Fail(r, fault)
		}
		http.Error(w, "no", status)
		return true
	}})
	for name, tt := range map[string]struct {
		fault      types.BaseMethodFault
		status     int
		want, hint string
	}{
		"lease":   {&types.NoDiskSpace{Datastore: "small"}, http.StatusInternalServerError, "vsphere: uploading the disk: the datastore small is full", "make room there, or another one: GOVC_DATASTORE=NAME"},
		"HTTP":    {nil, http.StatusInsufficientStorage, "vsphere: uploading the disk: the datastore is full", "make room there, or another one: GOVC_DATASTORE=NAME"},
		"neither": {nil, http.StatusInternalServerError, "vsphere: uploading the disk: 500 Internal Server Error", ""},
	} {
		fault, status = tt.fault, tt.status
		handles, err := placed(t, optionsOf(s))
		var told *hypervisor.RemoteError
		if !errors.As(err, &told) || err.Error() != tt.want || told.Hint() != tt.hint {
			t.Errorf("%s: %v; want %s", name, err, tt.want)
		}
		d := vsphere.New(optionsOf(s))
		defer d.Close()
		if err := d.Remove(t.Context(), handles[len(handles)-1]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := s.Left(t.Context()); len(left) > 0 {
		t.Errorf("left on the server: %q", left)
	}
}
