package gce

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"capstan/internal/cloud/gce/gcetest"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// What a push has left goes once nobody can go on with it, and an image once
// nothing is of it.
func TestPrune(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	h, err := remotetest.Created(t, d, webSpec())
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.connect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	other := testPush()
	other.Disk = "f" + other.Disk[1:]
	lock, err := c.lock(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	begun, err := c.stage(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	left := func(images, buckets int) {
		t.Helper()
		if i, b := cloud.Left(t); len(i) != images || len(b) != buckets {
			t.Errorf("images %q, buckets %q", i, b)
		}
	}
	if removed, err := d.Prune(t.Context(), true); err != nil || len(removed) > 0 {
		t.Errorf("removed what is in use: %+v, %v", removed, err)
	}
	// Nor is an old bucket left over in which a push has gone on.
	if removed, err := c.prune(t.Context(), false, time.Now().Add(time.Hour)); err != nil || len(removed) > 0 {
		t.Errorf("removed what a push is at: %+v, %v", removed, err)
	}
	left(1, 1)
	lock.Close() // it is killed
	if removed, err := c.prune(t.Context(), false, time.Time{}); err != nil || len(removed) != 1 || removed[0].ID != begun.Bucket || removed[0].Created.IsZero() {
		t.Errorf("what a push of this host has left: %+v, %v", removed, err)
	}
	left(1, 0)
	if removed, err := c.prune(t.Context(), false, time.Time{}); err != nil || len(removed) > 0 {
		t.Errorf("again: %+v, %v", removed, err)
	}
	if err := c.do(t.Context(), c.insertBucket(begun.Bucket), nil); err != nil { // as if by another host
		t.Fatal(err)
	}
	if removed, err := c.prune(t.Context(), false, time.Time{}); err != nil || len(removed) > 0 {
		t.Errorf("another host's: %+v, %v", removed, err)
	}
	left(1, 1)
	if removed, err := c.prune(t.Context(), false, time.Now().Add(time.Hour)); err != nil || len(removed) != 1 || removed[0].Kind != "bucket" {
		t.Errorf("%+v, %v", removed, err)
	}
	left(1, 0)
	if err := d.Start(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	// A disk keeps its image where its template is gone.
	_, parsed, err := d.of(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	var made template
	if err := c.do(t.Context(), c.getTemplate(parsed), &made); err != nil {
		t.Fatal(err)
	}
	if err := c.delete(t.Context(), c.getTemplate(parsed).url); err != nil {
		t.Fatal(err)
	}
	if removed, err := d.Prune(t.Context(), true); err != nil || len(removed) > 0 {
		t.Errorf("removed a disk's image: %+v, %v", removed, err)
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	// So does another's template, of a region. Who may not see buckets has none.
	elsewhere := c.compute + "projects/" + gcetest.Project + "/regions/us-central1/instanceTemplates"
	err = c.make(t.Context(), "making it", call{method: "POST", url: elsewhere + "?requestId=" + requestID(), body: made})
	if err != nil {
		t.Fatal(err)
	}
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		return gcetest.Trouble{Status: map[string]int{"/storage/v1/b": http.StatusForbidden}[r.URL.Path]}
	})
	if removed, err := d.Prune(t.Context(), true); err != nil || len(removed) > 0 {
		t.Errorf("removed a template's image: %+v, %v", removed, err)
	}
	cloud.Trouble(nil)
	if err := c.delete(t.Context(), elsewhere+"/"+made.Name); err != nil {
		t.Fatal(err)
	}
	// Nor is an image left over that another host has just made.
	there, err := driver(t, cloud, Options{}).connect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := there.prune(t.Context(), true, time.Now().Add(59*time.Minute-abandoned)); err != nil || len(removed) > 0 {
		t.Errorf("removed another host's image: %+v, %v", removed, err)
	}
	cloud.Trouble(func(_ *http.Request, n int) gcetest.Trouble {
		return gcetest.Trouble{Status: map[int]int{0: http.StatusServiceUnavailable}[n%3]}
	})
	if removed, err := d.Prune(t.Context(), true); err != nil || len(removed) != 1 || removed[0].Kind != "image" {
		t.Errorf("%+v, %v", removed, err)
	}
	cloud.Trouble(nil)
	left(0, 0)
	if h, err = remotetest.Created(t, d, webSpec()); err == nil {
		err = d.Remove(t.Context(), h)
	}
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := there.prune(t.Context(), true, time.Now().Add(2*time.Hour-abandoned)); err != nil || len(removed) != 1 {
		t.Errorf("another host's old image: %+v, %v", removed, err)
	}
	left(0, 0)
}

// What belongs to an instance goes once it is old, and nothing else is there of
// that: neither a template nor a machine. A volume that was ever attached stays.
func TestPruneInstances(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	c, err := d.connect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	handles := map[string]handle{}
	for id, volume := range map[string]string{"000000000001": "used", "000000000002": "unused"} {
		spec := withVolumes(id, hypervisor.Volume{Name: volume, Target: "/data"})
		spec.Cloud.Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}
		h, err := remotetest.Created(t, d, spec)
		if err == nil && volume == "used" {
			err = d.Start(t.Context(), h)
		}
		if err == nil {
			handles[volume], err = parseHandle(h)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pruned := func(before time.Time, want ...string) {
		t.Helper()
		removed, err := c.prune(t.Context(), false, before)
		var got []string
		for _, r := range removed {
			got = append(got, r.Kind+" "+r.ID)
		}
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("removed %q, %v", got, err)
		}
	}
	later := time.Now().Add(time.Hour)
	pruned(later) // one has a machine, and each a template
	for _, h := range handles {
		if err := c.delete(t.Context(), c.getTemplate(h).url); err != nil {
			t.Fatal(err)
		}
	}
	pruned(time.Now().Add(-time.Hour))                           // it is young
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble { // the volume is attached meanwhile
		return gcetest.Trouble{Status: map[bool]int{true: http.StatusBadRequest}[r.Method == "DELETE" && strings.HasSuffix(r.URL.Path, "/disks/capstan-volume-unused")]}
	})
	pruned(later, "firewall capstan-000000000002", "firewall capstan-000000000002-6")
	cloud.Trouble(nil)
	pruned(later, "disk capstan-volume-unused")
	if err := c.delete(t.Context(), c.getMachine(handles["used"]).url); err != nil {
		t.Fatal(err)
	}
	pruned(later, "firewall capstan-000000000001", "firewall capstan-000000000001-6")
	if got := volumeNames(t, d); !slices.Equal(got, []string{gcetest.Zone + " used capstan-volume-used"}) {
		t.Errorf("the volumes are %q", got)
	}
}
