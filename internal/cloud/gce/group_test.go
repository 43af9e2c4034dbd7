package gce

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"capstan/internal/cloud/gce/gcetest"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// TestGroup is the life of a group; what may be done twice is.
func TestGroup(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	var d hypervisor.Scaler = driver(t, cloud, Options{})
	spec := webSpec()
	spec.Replicas = 3
	h, err := remotetest.Created(t, d, spec)
	if err != nil {
		t.Fatal(err)
	}
	twice := func(what string, do func() error) {
		t.Helper()
		for range 2 {
			if err := do(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	if now, err := d.Status(t.Context(), h); err != nil || now.On || now.Replicas != 0 || len(now.Members) > 0 {
		t.Fatalf("before it was started: %+v, %v", now, err)
	}
	for _, n := range []int{3, 1, 2} {
		twice("scaling", func() error { return d.Scale(t.Context(), h, n) })
		now, err := d.Status(t.Context(), h)
		if err != nil || !now.On || now.Replicas != n || len(now.Members) != n {
			t.Fatalf("scaled to %d: %+v, %v", n, now, err)
		}
		for _, m := range now.Members {
			checkMember(t, d, h, m)
		}
	}
	list, err := d.(*Driver).List(t.Context())
	if at := slices.IndexFunc(list, func(r hypervisor.Resource) bool { return r.Kind == "instanceGroupManager" }); err != nil || at < 0 ||
		list[at].Instance != spec.ID || list[at].Name != "web_1" || list[at].Place != gcetest.Zone {
		t.Errorf("listed: %+v, %v", list, err)
	}
	twice("stopping", func() error { return d.Stop(t.Context(), h, 0) })
	if now, err := d.Status(t.Context(), h); err != nil || now.On || now.Replicas != 0 || len(now.Members) > 0 {
		t.Errorf("stopped: %+v, %v", now, err)
	}
	if err := d.Scale(t.Context(), h, 2); err != nil {
		t.Fatal(err)
	}
	twice("removing", func() error { return d.Remove(t.Context(), h) })
	if _, err := d.Status(t.Context(), h); !errors.Is(err, hypervisor.ErrGone) {
		t.Errorf("removed: %v", err)
	}
	if err := d.Scale(t.Context(), h, 1); err == nil {
		t.Error("what is gone was scaled")
	}
	if left := cloud.Instances(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestGroupTrouble: of a group whose machines cannot be made the reason is told.
func TestGroupTrouble(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	var d hypervisor.Scaler = driver(t, cloud, Options{})
	spec := webSpec()
	spec.Replicas, spec.Cloud.Type = 2, "e2-standard-4" // of which there is none
	h, err := remotetest.Created(t, d, spec)
	if err == nil {
		err = d.Scale(t.Context(), h, 2)
	}
	if err != nil {
		t.Fatal(err)
	}
	now, err := d.Status(t.Context(), h)
	if err != nil || now.On || now.Replicas != 2 || len(now.Members) != 2 || !strings.Contains(now.Trouble, "Quota 'CPUS' exceeded") {
		t.Errorf("it cannot be made: %+v, %v", now, err)
	}
	for _, m := range now.Members {
		if m.On || m.Status != "CREATING" {
			t.Errorf("a member is %+v", m)
		}
	}
	if err := d.Stop(t.Context(), h, 0); err != nil {
		t.Fatal(err)
	}
	if now, err := d.Status(t.Context(), h); err != nil || len(now.Members) > 0 || now.Trouble != "" {
		t.Errorf("stopped: %+v, %v", now, err)
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if left := cloud.Instances(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// checkMember looks at one machine of a group that has just been started.
func checkMember(t *testing.T, d hypervisor.Remote, h hypervisor.Handle, m hypervisor.Member) {
	t.Helper()
	if !strings.HasPrefix(m.ID, "capstan-0123456789ab-") || m.Status != "RUNNING" || !m.On || m.Address != netip.MustParseAddr(address) {
		t.Errorf("a member is %+v", m)
	}
	r, err := d.Console(t.Context(), h, hypervisor.ConsolePart{Member: m.ID})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if said, err := io.ReadAll(r); err != nil || !strings.Contains(string(said), "application 1\n") {
		t.Errorf("%s said %q, %v", m.ID, said, err)
	}
}

// TestGroupCut: whichever call is the last that arrives, of a making and a
// scaling, what there is by then is removed by what was kept.
func TestGroupCut(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	spec := webSpec()
	spec.Replicas = 2
	d := driver(t, cloud, Options{Tries: 1})
	h, err := remotetest.Created(t, d, spec) // the image stays
	if err == nil {
		err = d.Remove(t.Context(), h)
	}
	if err != nil {
		t.Fatal(err)
	}
	for last := 1; ; last++ {
		cloud.Trouble(func(_ *http.Request, n int) gcetest.Trouble { return gcetest.Trouble{After: n == last, Lost: n > last} })
		h, err := remotetest.Created(t, d, spec)
		if err == nil {
			err = d.Scale(t.Context(), h, 2)
		}
		whole := err == nil
		cloud.Trouble(nil)
		if h != nil {
			if err := d.Remove(t.Context(), h); err != nil {
				t.Fatalf("after call %d: %v", last, err)
			}
		}
		if left := cloud.Instances(t); len(left) > 0 {
			t.Fatalf("after call %d there is left: %q", last, left)
		}
		if whole {
			return
		}
	}
}
