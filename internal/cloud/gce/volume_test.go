package gce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"capstan/guest/api"
	"capstan/internal/cloud/gce/gcetest"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// withVolumes is the spec of an instance with volumes.
func withVolumes(id string, volumes ...hypervisor.Volume) *hypervisor.RemoteSpec {
	spec := webSpec()
	spec.ID, spec.Cloud.Volumes = id, volumes
	return spec
}

// volumeNames are the volumes that there are, with their users.
func volumeNames(t *testing.T, d *Driver) []string {
	t.Helper()
	list, err := d.Volumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range list {
		names = append(names, strings.Join(append([]string{v.Place, v.Name, v.ID}, v.Users...), " "))
	}
	return names
}

// TestVolumes: a volume outlives the machines that use it, one after the other.
func TestVolumes(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	data := hypervisor.Volume{Name: "data", Size: 20 << 30, Target: "/var/lib/data"}
	first, err := remotetest.Created(t, d, withVolumes("000000000001", data))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	c, h, err := d.of(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Properties properties }
	if err := c.do(t.Context(), c.getTemplate(h), &made); err != nil {
		t.Fatal(err)
	}
	p := made.Properties
	if len(p.Disks) != 2 || p.Disks[1].Source != "capstan-volume-data" || p.Disks[1].Device != "capstan-volume-data" || p.Disks[1].AutoDelete || p.Disks[1].Mode != "READ_WRITE" {
		t.Errorf("the disks are %+v", p.Disks)
	}
	var told struct {
		Items []struct{ Key, Value string }
	}
	doc, err := json.Marshal(p.Metadata)
	if err == nil {
		err = json.Unmarshal(doc, &told)
	}
	var guest api.Config
	if err == nil {
		err = json.Unmarshal([]byte(told.Items[0].Value), &guest)
	}
	want := api.Mount{Type: "ext4", Source: "serial:capstan-volume-data", Target: "/var/lib/data"}
	if err != nil || len(guest.Mounts) != 1 || guest.Mounts[0] != want {
		t.Errorf("the guest mounts %+v, %v", guest.Mounts, err)
	}
	attached := []string{gcetest.Zone + " data capstan-volume-data web-1-000000000001"}
	if got := volumeNames(t, d); !slices.Equal(got, attached) {
		t.Errorf("volumes: %q", got)
	}
	list, err := d.Volumes(t.Context())
	if err != nil || list[0].Size != 20<<30 || list[0].Status != "ready" || list[0].Created.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	if err := d.RemoveVolume(t.Context(), list[0]); err == nil || !strings.Contains(err.Error(), "already being used") {
		t.Errorf("removing it in use: %v", err)
	}
	all, err := d.List(t.Context())
	if !slices.ContainsFunc(all, func(r hypervisor.Resource) bool { return r.Kind == "disk" && r.Name == "data" }) || err != nil {
		t.Errorf("List has %+v, %v", all, err)
	}

	for name, c := range map[string]struct {
		volume    hypervisor.Volume
		say, hint string
	}{
		"in use":          {data, "the volume data is attached to the instance web_1", "capstan rm web_1"},
		"written to":      {hypervisor.Volume{Name: "data", Target: "/d", ReadOnly: true}, "the instance web_1, which writes to it", "capstan rm web_1"},
		"of another size": {hypervisor.Volume{Name: "data", Target: "/d", Size: 30 << 30}, "is there already, with 20 GiB", "disks resize capstan-volume-data"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := remotetest.Created(t, d, withVolumes("000000000002", c.volume))
			var hinted interface{ Hint() string }
			if err == nil || !strings.Contains(err.Error(), c.say) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), c.hint) {
				t.Errorf("%v", err)
			}
			if h != nil {
				err = d.Remove(t.Context(), h)
			}
			if got := volumeNames(t, d); !slices.Equal(got, attached) {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
	cloud.Trouble(nil)
	if _, err := remotetest.Created(t, d, withVolumes("000000000002", hypervisor.Volume{Name: "small", Target: "/d", Size: 10<<30 - 1})); err == nil || !strings.Contains(err.Error(), "the volume small is smaller than") || len(cloud.Calls()) > 0 {
		t.Errorf("a small one: %v, by %q", err, cloud.Calls())
	}
	group := withVolumes("000000000002", data)
	group.Replicas = 2
	if _, err := remotetest.Created(t, d, group); err == nil || !strings.Contains(err.Error(), "to the machines of a group") {
		t.Errorf("a group: %v", err)
	}

	if err := d.Remove(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := volumeNames(t, d); !slices.Equal(got, []string{gcetest.Zone + " data capstan-volume-data"}) {
		t.Errorf("after the machine: %q", got)
	}
	// The next one, and another, read it; neither makes anything for it.
	cloud.Trouble(nil)
	data.ReadOnly, data.Size = true, 0
	var readers []hypervisor.Handle
	for _, id := range []string{"000000000003", "000000000004"} {
		h, err := remotetest.Created(t, d, withVolumes(id, data))
		if err == nil {
			err = d.Start(t.Context(), h)
		}
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, h)
	}
	for _, call := range cloud.Calls() {
		if strings.HasPrefix(call, "POST ") && (strings.HasSuffix(call, "/disks") || strings.HasSuffix(call, "/images")) {
			t.Errorf("for a volume that there is: %s", call)
		}
	}
	for _, h := range readers {
		if err := d.Remove(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.RemoveVolume(t.Context(), list[0]), d.RemoveVolume(t.Context(), list[0])); err != nil {
		t.Fatal(err)
	}
	if got := cloud.Instances(t); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

// A volume that was made for an instance which never had it goes with it,
// whatever became of the calls that made it.
func TestVolumeUnused(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	spec := withVolumes("000000000001", hypervisor.Volume{Name: "data", Target: "/data"}, hypervisor.Volume{Name: "logs", Target: "/logs"})
	spec.Cloud.Type = "e2-standard-4" // of which there is none
	h, err := remotetest.Created(t, d, spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := volumeNames(t, d); len(got) != 2 {
		t.Errorf("volumes: %q", got)
	}
	if err := d.Start(t.Context(), h); err == nil {
		t.Error("it is started")
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if got := cloud.Instances(t); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
	nowhere := `{"id":"000000000002","project":"` + gcetest.Project + `","zone":"mars-1-a","name":"x","volumes":true}`
	if err := d.Remove(t.Context(), hypervisor.Handle(nowhere)); err != nil {
		t.Errorf("in a zone that there is not: %v", err)
	}
}

// Whoever would only like to know is told of the calls for volumes, too.
func TestTellVolumes(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	var told []string
	d := driver(t, cloud, Options{Project: gcetest.Project, Would: func(call string) { told = append(told, call) }})
	if _, err := remotetest.Created(t, d, withVolumes("000000000001", hypervisor.Volume{Name: "data", Target: "/data"})); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(told, "\n"); !strings.Contains(all, "/disks/capstan-volume-data\n") || !strings.Contains(all, `"sizeGb":"10"`) || !strings.Contains(all, "/global/images/capstan-volume-") || len(cloud.Calls()) > 0 {
		t.Errorf("told:\n%s\ncalls: %q", all, cloud.Calls())
	}
}

// Answers that are lost make no second volume, and an interrupt after any call
// leaves none that the instance never had.
func TestVolumeTrouble(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	cloud.Trouble(func(_ *http.Request, n int) gcetest.Trouble { return gcetest.Trouble{After: n%2 == 0} })
	h, err := remotetest.Created(t, d, withVolumes("000000000001", hypervisor.Volume{Name: "data", Target: "/data"}))
	if err == nil {
		err = errors.Join(d.Start(t.Context(), h), d.Remove(t.Context(), h))
	}
	list, failed := d.Volumes(t.Context())
	if err := errors.Join(err, failed); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := d.RemoveVolume(t.Context(), list[0]); err != nil {
		t.Fatal(err)
	}
	for last := 1; ; last++ {
		ctx, interrupt := context.WithCancel(t.Context())
		cloud.Trouble(func(_ *http.Request, n int) gcetest.Trouble {
			if n == last {
				interrupt()
			}
			return gcetest.Trouble{}
		})
		var h hypervisor.Handle
		err := d.Create(ctx, withVolumes(fmt.Sprintf("%012x", last), hypervisor.Volume{Name: "data", Target: "/data"}), func(now hypervisor.Handle) error {
			h = now
			return nil
		})
		cloud.Trouble(nil)
		if h != nil {
			if err := d.Remove(t.Context(), h); err != nil {
				t.Fatalf("after call %d: %v", last, err)
			}
		}
		if left := cloud.Instances(t); len(left) > 0 {
			t.Fatalf("after call %d there is %q", last, left)
		}
		if err == nil && ctx.Err() == nil {
			interrupt()
			if last < 8 {
				t.Errorf("it takes %d calls only", last)
			}
			return
		}
	}
}
