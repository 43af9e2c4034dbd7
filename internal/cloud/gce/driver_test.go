package gce

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capstan/guest/api"
	"capstan/internal/cloud/gce/gcetest"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/remotetest"
)

// address is that of the machines which boot nothing.
const address = "192.0.2.7"

// driver has a driver of a cloud that is this test's own.
func driver(t *testing.T, cloud *gcetest.Cloud, o Options) *Driver {
	t.Helper()
	for _, kv := range cloud.Env(t) {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	if o.Zone == "" {
		o.Zone = gcetest.Zone
	}
	o.Version, o.State = "v1.2-3_x", t.TempDir()
	return New(o)
}

// TestRemote: the driver is what the interface says.
func TestRemote(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	remotetest.Run(t, remotetest.Platform{
		Driver: func(t *testing.T) hypervisor.Remote { return driver(t, cloud, Options{}) },
		Unreachable: func(t *testing.T) hypervisor.Remote {
			t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "http://127.0.0.1:1/compute/v1/") // nobody listens there
			d := New(Options{Zone: gcetest.Zone, Tries: 1})
			if _, err := d.connect(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			return d
		},
		Left:    func(t *testing.T) []string { return cloud.Instances(t) },
		Forgets: true,
		Address: netip.MustParseAddr(address),
		Secret:  "ya29.not-a-secret",
	})
}

// webSpec is a machine's that serves.
func webSpec() *hypervisor.RemoteSpec {
	p := testPush()
	return &hypervisor.RemoteSpec{
		ID: "0123456789ab", Name: "Web_1", Image: p.Image, Digest: p.Digest, Memory: 1500 << 20, CPUs: 1,
		Guest: api.Config{Version: api.Version, Args: []string{"serve"}, Env: []string{"PASSWORD=secret"}, Begin: true},
		Ports: []hypervisor.Port{{Guest: 80, Protocol: "tcp"}, {Guest: 53, Protocol: "udp"}},
		ImageDisk: func(int64) (hypervisor.BootDisk, error) {
			return hypervisor.BootDisk{ID: p.Disk, Size: diskSize, Write: func(_ context.Context, w io.WriterAt) error { return writeContent(w) }}, nil
		},
	}
}

func TestCreate(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	spec := webSpec()
	spec.Cloud = hypervisor.CloudSpec{Subnet: "inside", Spot: true, Identity: "app@" + gcetest.Project + ".iam.gserviceaccount.com",
		Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}}
	h, err := remotetest.Created(t, d, spec)
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Name       string
		Properties properties
	}
	c, parsed, err := d.of(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.do(t.Context(), c.getTemplate(parsed), &made); err != nil {
		t.Fatal(err)
	}
	p := made.Properties
	if boot := p.Disks[0].Init; boot.Size != 10 {
		t.Errorf("the disk is %+v", boot)
	}
	if p.MachineType != "e2-small" || p.Labels["capstan-instance"] != spec.ID || p.Labels["capstan-name"] != "web_1" || p.Scheduling["provisioningModel"] != "SPOT" || len(p.Accounts) != 1 {
		t.Errorf("%+v", p)
	}
	if got := cloud.Instances(t); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"capstan-0123456789ab", "capstan-0123456789ab", "capstan-0123456789ab-6"}) {
		t.Errorf("made: %q", got)
	}
	if err := d.Start(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	// What others have is not told of.
	others := template{Name: "others", Properties: made.Properties}
	others.Properties.Labels = map[string]string{"team": "b"}
	if err := c.make(t.Context(), "making it", call{method: "POST", url: c.global() + "instanceTemplates?requestId=" + requestID(), body: others}); err != nil {
		t.Fatal(err)
	}
	list, err := d.List(t.Context())
	if err := c.delete(t.Context(), c.global()+"instanceTemplates/others"); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, r := range list {
		kinds = append(kinds, r.Kind+" "+r.Place)
		if r.Kind != "image" && (r.Instance != spec.ID || r.Name != "web_1") {
			t.Errorf("it is not told whose %+v is", r)
		}
		if r.Kind == "instance" && (r.Address != address || r.Instance != spec.ID || r.Status != "running") {
			t.Errorf("%+v", r)
		}
	}
	slices.Sort(kinds)
	if want := []string{"disk " + gcetest.Zone, "firewall ", "firewall ", "image ", "instance " + gcetest.Zone, "instanceTemplate "}; err != nil || !slices.Equal(kinds, want) {
		t.Errorf("%q, %v", kinds, err)
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if left := cloud.Instances(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	// Without sources nothing is opened; the image is there already.
	cloud.Trouble(nil)
	spec.Cloud = hypervisor.CloudSpec{}
	if h, err = remotetest.Created(t, d, spec); err != nil {
		t.Fatal(err)
	}
	for _, call := range cloud.Calls() {
		if strings.HasPrefix(call, "POST ") && !strings.Contains(call, "/instanceTemplates") && !strings.Contains(call, "/operations/") {
			t.Errorf("for a template: %s", call)
		}
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

// TestCreateAfterKilled: what a killed push has left is removed also where its
// image is found.
func TestCreateAfterKilled(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	c, err := d.connect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	spec := webSpec()
	disk, err := spec.ImageDisk(1 << 30)
	if err != nil {
		t.Fatal(err)
	}
	killed(t, c, c.pushOf(spec, disk, "amd64"))
	h, err := remotetest.Created(t, d, spec)
	if err != nil {
		t.Fatal(err)
	}
	if images, buckets := cloud.Left(t); len(images) != 1 || len(buckets) > 0 {
		t.Errorf("images %q, buckets %q", images, buckets)
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

// TestConsoleLost: of more than 1 MiB the end is there, in its place.
func TestConsoleLost(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	h, err := remotetest.Created(t, d, webSpec())
	if err == nil {
		err = d.Start(t.Context(), h)
	}
	var parsed handle
	if err == nil {
		parsed, err = parseHandle(h)
	}
	if err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte("0123456789abcde\n"), 96<<10) // 1.5 MiB
	long[len(long)-1] = 0xff                                  // which is no UTF-8
	if err := os.WriteFile(filepath.Join(cloud.Dir, parsed.Name+".serial"), long, 0o600); err != nil {
		t.Fatal(err)
	}
	for offset, begin := range map[int64]int{0: 512 << 10, 1 << 20: 1 << 20, -5: len(long) - 5} {
		c, err := d.Console(t.Context(), h, hypervisor.ConsolePart{Offset: offset})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		want := append(bytes.Clone(long[begin:len(long)-1]), '?')
		if err != nil || c.Offset != int64(begin) || !bytes.Equal(got, want) {
			t.Errorf("from %d: %d bytes at %d, %v", offset, len(got), c.Offset, err)
		}
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

// TestConsoleOff: the port of a machine that stops, or is off, cannot be read,
// which is asked once; another refusal is an error.
func TestConsoleOff(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	h, err := remotetest.Created(t, d, webSpec())
	if err == nil {
		err = d.Start(t.Context(), h)
	}
	if err != nil {
		t.Fatal(err)
	}
	said := func() (string, int64, error) {
		c, err := d.Console(t.Context(), h, hypervisor.ConsolePart{Offset: 5})
		if err != nil {
			return "", 0, err
		}
		text, err := io.ReadAll(c)
		return string(text), c.Offset, err
	}
	asked := func() (n int) {
		for _, call := range cloud.Calls() {
			if strings.HasSuffix(call, "/serialPort") {
				n++
			}
		}
		return n
	}
	cloud.Trouble(func(r *http.Request, n int) gcetest.Trouble {
		return gcetest.Trouble{Status: map[bool]int{true: http.StatusServiceUnavailable}[n < 5 && strings.HasSuffix(r.URL.Path, "/serialPort")]}
	})
	if text, _, err := said(); err != nil || !strings.Contains(text, "application 1\n") || asked() < 2 {
		t.Errorf("a machine that runs: %q, %v, asked %d times", text, err, asked())
	}
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		return gcetest.Trouble{Status: map[bool]int{true: http.StatusForbidden}[strings.HasSuffix(r.URL.Path, "/serialPort")]}
	})
	if _, _, err := said(); !is(err, http.StatusForbidden) {
		t.Errorf("who may not read: %v", err)
	}
	c, parsed, err := d.of(t.Context(), h)
	if err == nil {
		err = c.do(t.Context(), c.power(parsed, "stop", nil), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"stopping", "off"} {
		cloud.Trouble(nil)
		if text, at, err := said(); err != nil || text != "" || at != 5 || asked() != 1 {
			t.Errorf("%s: %q at %d, %v, asked %d times", how, text, at, err, asked())
		}
		if err := d.Stop(t.Context(), h, 0); err != nil {
			t.Fatal(err)
		}
	}
	// The third call asks why the second was refused.
	cloud.Trouble(func(_ *http.Request, n int) gcetest.Trouble {
		return gcetest.Trouble{Status: map[bool]int{true: http.StatusServiceUnavailable}[n == 3]}
	})
	if text, at, err := said(); err != nil || text != "" || at != 5 || asked() != 2 {
		t.Errorf("off, on a bad day: %q at %d, %v, asked %d times", text, at, err, asked())
	}
	if err := d.Remove(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

// What cannot be had is told with a way out, and leaves nothing.
func TestRefused(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	d := driver(t, cloud, Options{})
	for name, c := range map[string]struct {
		change    func(*hypervisor.RemoteSpec)
		say, hint string
	}{
		"no such zone":   {func(s *hypervisor.RemoteSpec) { s.Cloud.Place = "mars-1-a" }, "there is no zone mars-1-a", "zones list"},
		"no such type":   {func(s *hypervisor.RemoteSpec) { s.Cloud.Type = "e9-huge" }, "no machine type e9-huge", "machine-types list"},
		"another's type": {func(s *hypervisor.RemoteSpec) { s.Cloud.Type = "t2a-standard-1" }, "is for ARM64", "--type"},
		"no such subnet": {func(s *hypervisor.RemoteSpec) { s.Cloud.Subnet = "nope" }, "there is no subnet nope in us-central1", "subnets list"},
		"too much":       {func(s *hypervisor.RemoteSpec) { s.Memory = 1 << 50 }, "has no machine type with 1 CPUs", "--type"},
		"exhausted":      {func(s *hypervisor.RemoteSpec) { s.Cloud.Place = gcetest.Exhausted }, "does not have enough resources", "--zone"},
		"quota":          {func(s *hypervisor.RemoteSpec) { s.Cloud.Type = "e2-standard-4" }, "Quota 'CPUS' exceeded", "quota"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := webSpec()
			spec.Cloud.Sources = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
			c.change(spec)
			remotetest.Fails(t, d, spec, c.say, c.hint)
			if left := cloud.Instances(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// Calls that are throttled or whose answers are lost do no harm in a machine's
// life, and nothing is made twice.
func TestMachineTrouble(t *testing.T) {
	for name, next := range map[string]func(r *http.Request, n int) gcetest.Trouble{
		"throttled a third of the time": func(_ *http.Request, n int) gcetest.Trouble {
			return gcetest.Trouble{Status: map[int]int{0: http.StatusTooManyRequests}[n%3]}
		},
		"answers that are lost": func(_ *http.Request, n int) gcetest.Trouble { return gcetest.Trouble{After: n%2 == 0} },
	} {
		t.Run(name, func(t *testing.T) {
			cloud := gcetest.Pretend(t, address)
			d := driver(t, cloud, Options{})
			cloud.Trouble(next)
			spec := webSpec()
			spec.Cloud.Sources = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
			h, err := remotetest.Created(t, d, spec)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Start(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			if now, err := d.Status(t.Context(), h); err != nil || !now.On || now.Address.String() != address {
				t.Errorf("%+v, %v", now, err)
			}
			if err := errors.Join(d.Stop(t.Context(), h, 0), d.Remove(t.Context(), h)); err != nil {
				t.Fatal(err)
			}
			cloud.Trouble(nil)
			if left := cloud.Instances(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// TestRehearse: a rehearsal tells of all calls, without what is in the
// environment, and makes none.
func TestRehearse(t *testing.T) {
	cloud := gcetest.Pretend(t, address)
	real := driver(t, cloud, Options{})
	for replicas, last := range map[int]string{0: "/instances?", 2: "/resize?"} {
		var told []string
		spec := webSpec()
		spec.Replicas = replicas
		spec.Cloud.Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		r := real.Rehearse(func(call string) { told = append(told, call) })
		h, err := remotetest.Created(t, r, spec)
		if err == nil && replicas > 0 {
			err = r.(hypervisor.Scaler).Scale(t.Context(), h, replicas)
		} else if err == nil {
			err = r.Start(t.Context(), h)
		}
		all := strings.Join(told, "\n")
		if err != nil || !strings.Contains(told[len(told)-1], last) || !strings.Contains(all, `"198.51.100.0/24"`) || !strings.Contains(all, "/instanceTemplates?") || strings.Contains(all, "secret") {
			t.Errorf("%v\n%s", err, all)
		}
		if err := errors.Join(r.Stop(t.Context(), h, 0), r.Remove(t.Context(), h)); err != nil {
			t.Error(err)
		}
	}
	if calls := cloud.Calls(); len(calls) > 0 {
		t.Errorf("made: %q", calls)
	}
}
