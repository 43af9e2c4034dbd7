//go:build linux

package vsphere_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/vsphere"
	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// TestStrangers: a machine that has an instance's number in the inventory, or
// its name, and is another's, is not the instance's.
func TestStrangers(t *testing.T) {
	s := vspheretest.Start(t, vspheretest.Options{Tools: address})
	d := vsphere.New(optionsOf(s))
	defer d.Close()
	other := made(t, d, "abcdefabcdef")
	if err := d.Start(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	there := s.Left(t.Context())
	theirs := fields(t, other)
	mine := fields(t, made(t, d, "0123456789ab"))
	if err := d.Remove(t.Context(), document(t, mine)); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]map[string]string{
		"number":            {"vm": theirs["vm"]},
		"number, uploading": {"vm": theirs["vm"], "lease": "session[none]", "home": ""},
		"name":              {"vm": "", "name": theirs["name"]},
	} {
		h := fields(t, document(t, mine))
		for key, value := range to {
			h[key] = value
		}
		mistaken := document(t, h)
		_, statusErr := d.Status(t.Context(), mistaken)
		for doing, err := range map[string]error{
			"Status": statusErr, "Start": d.Start(t.Context(), mistaken), "Stop": d.Stop(t.Context(), mistaken, 0),
		} {
			if !errors.Is(err, hypervisor.ErrGone) {
				t.Errorf("by %s: %s: %v", name, doing, err)
			}
		}
		if err := d.Remove(t.Context(), mistaken); err != nil {
			t.Errorf("by %s: Remove: %v", name, err)
		}
	}
	if now, err := d.Status(t.Context(), other); err != nil || !now.On {
		t.Errorf("the stranger is %+v, %v", now, err)
	}
	if got := s.Left(t.Context()); !slices.Equal(got, there) {
		t.Errorf("there is %q; was %q", got, there)
	}
	if err := d.Remove(t.Context(), other); err != nil {
		t.Fatal(err)
	}
}

// TestUnmarked: a machine that does not say whose it is, as one may not that is
// about to be made, is known by its name.
func TestUnmarked(t *testing.T) {
	s := vspheretest.Start(t, vspheretest.Options{Tools: address})
	d := vsphere.New(optionsOf(s))
	defer d.Close()
	h := fields(t, made(t, d, "0123456789ab"))
	c := s.Client(t.Context())
	defer c.Logout(t.Context())
	vm, err := find.NewFinder(c.Client).VirtualMachine(t.Context(), "/...")
	if err != nil {
		t.Fatal(err)
	}
	task, err := vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "capstan.instance", Value: ""}},
	})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	h["vm"], h["home"] = "", ""
	if err := d.Remove(t.Context(), document(t, h)); err != nil {
		t.Fatal(err)
	}
	if left := s.Left(t.Context()); len(left) > 0 {
		t.Errorf("left on the server: %q", left)
	}
}

// made makes a machine of an instance, and returns its last handle.
func made(t *testing.T, d *vsphere.Driver, id string) (last hypervisor.Handle) {
	t.Helper()
	err := d.Create(t.Context(), &hypervisor.RemoteSpec{ID: id, Name: "made", Memory: 256 << 20, CPUs: 1, Disk: empty}, func(h hypervisor.Handle) error {
		last = slices.Clone(h)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func fields(t *testing.T, h hypervisor.Handle) (f map[string]string) {
	t.Helper()
	if err := json.Unmarshal(h, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func document(t *testing.T, fields map[string]string) hypervisor.Handle {
	t.Helper()
	doc, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
