package gce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"capstan/internal/hypervisor"
	"capstan/internal/image/disk"
)

// Name is the platform's.
const Name = "gce"

// Driver is the platform. An instance of Capstan is an instance template, which
// costs nothing and holds what the machine is told, firewall rules, and, once it
// was started, an instance of the template. All of them carry its ID.
type Driver struct {
	opts Options

	mu   sync.Mutex
	open *Client // nil until it is needed
}

// New returns the driver. It connects when it has to.
func New(o Options) *Driver {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	o.brief = true
	return &Driver{opts: o}
}

// Name is the platform's, as --on takes it.
func (*Driver) Name() string { return Name }

// Capabilities are what Compute Engine can do.
func (*Driver) Capabilities() hypervisor.Capabilities {
	return hypervisor.Capabilities{
		Away: true, Cloud: true, OneConsole: true, Ports: true, UDP: true,
		Disk: disk.Raw, Console: "/dev/ttyS0",
	}
}

// Close has nothing to do: there is no session.
func (*Driver) Close() error { return nil }

// handle is what is known of a machine.
type handle struct {
	ID      string `json:"id"` // the instance's, which all that belongs to it carries
	Project string `json:"project"`
	Zone    string `json:"zone"`
	Name    string `json:"name"` // of the machine
	Group   bool   `json:"group,omitempty"`
	Volumes bool   `json:"volumes,omitempty"` // some were asked for
}

func parseHandle(doc hypervisor.Handle) (handle, error) {
	var h handle
	if err := json.Unmarshal(doc, &h); err != nil || h.ID == "" || h.Project == "" || h.Zone == "" || h.Name == "" {
		return h, fmt.Errorf("%s: the instance's handle is damaged", Name)
	}
	return h, nil
}

// group is the name of the template and of the firewall rules, and the tag by
// which the rules know the machine.
func (h handle) group() string { return "capstan-" + h.ID }

// connect returns a client of the driver's project, or of another one.
func (d *Driver) connect(ctx context.Context, project string) (*Client, error) {
	open, err := d.client(ctx)
	if err != nil {
		return nil, err
	}
	c := *open
	if c.opts.Project = firstOf(project, c.opts.Project); c.opts.Project == "" {
		return nil, ErrNoProject
	}
	return &c, nil
}

// client returns a client, which outlives the call that first needs it.
func (d *Driver) client(ctx context.Context) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		c, err := dial(context.WithoutCancel(ctx), d.opts)
		if err != nil {
			return nil, err
		}
		d.open = c
	}
	return d.open, nil
}

// of returns a handle with a client for its project.
func (d *Driver) of(ctx context.Context, doc hypervisor.Handle) (*Client, handle, error) {
	h, err := parseHandle(doc)
	if err != nil {
		return nil, h, err
	}
	c, err := d.connect(ctx, h.Project)
	return c, h, err
}

// machine is what of an instance is asked (Compute Engine's API v1, instances).
type machine struct {
	Name       string            `json:"name"`
	Zone       string            `json:"zone"` // a URL
	Status     string            `json:"status"`
	Labels     map[string]string `json:"labels"`
	Started    time.Time         `json:"lastStartTimestamp"`
	Created    time.Time         `json:"creationTimestamp"`
	Disks      []attached        `json:"disks"`
	Interfaces []struct {
		IP     string `json:"networkIP"`
		Access []struct {
			IP string `json:"natIP"`
		} `json:"accessConfigs"`
	} `json:"networkInterfaces"`
}

// on tells whether a machine has power. One that is stopping has.
func (m machine) on() bool {
	switch m.Status {
	case "", "TERMINATED", "STOPPED", "SUSPENDED":
		return false
	}
	return true
}

// address is the one by which a machine is reached from outside, where it has
// one, else the one in its network.
func (m machine) address() netip.Addr {
	var inside netip.Addr
	for _, i := range m.Interfaces {
		for _, a := range i.Access {
			if addr, err := netip.ParseAddr(a.IP); err == nil {
				return addr
			}
		}
		if addr, err := netip.ParseAddr(i.IP); err == nil && !inside.IsValid() {
			inside = addr
		}
	}
	return inside
}

func (c *Client) zone(name string) string {
	return c.compute + "projects/" + url.PathEscape(c.opts.Project) + "/zones/" + url.PathEscape(name) + "/"
}

func (c *Client) getMachine(h handle) call {
	return call{method: "GET", url: c.zone(h.Zone) + "instances/" + h.Name}
}

func (c *Client) getTemplate(h handle) call {
	return call{method: "GET", url: c.global() + "instanceTemplates/" + h.group()}
}

// machine asks for an instance; one that was never started has no status.
func (c *Client) machine(ctx context.Context, h handle) (machine, error) {
	var m machine
	err := c.do(ctx, c.getMachine(h), &m)
	if !is(err, http.StatusNotFound) {
		return m, err
	}
	if err = c.do(ctx, c.getTemplate(h), nil); is(err, http.StatusNotFound) {
		err = &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("%w from the project %s", hypervisor.ErrGone, h.Project)}
	}
	return machine{}, err
}

// Status asks for the machine's state.
func (d *Driver) Status(ctx context.Context, doc hypervisor.Handle) (hypervisor.RemoteStatus, error) {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return hypervisor.RemoteStatus{}, err
	}
	if h.Group {
		now, err := c.group(ctx, h)
		return now, explain(err)
	}
	m, err := c.machine(ctx, h)
	if err != nil || !m.on() {
		return hypervisor.RemoteStatus{}, explain(err)
	}
	return hypervisor.RemoteStatus{On: true, Started: m.Started, Address: m.address()}, nil
}

// explain has an error say that the platform cannot be reached, where that is
// what is wrong.
func explain(err error) error {
	var lost *lostError
	if !errors.As(err, &lost) || errors.Is(err, context.Canceled) {
		return err
	}
	return &hypervisor.RemoteError{
		Platform: Name, Err: fmt.Errorf("%s: %w: %w", lost.service, hypervisor.ErrUnreachable, lost.err), Remedy: "again, once this computer reaches Google",
	}
}
