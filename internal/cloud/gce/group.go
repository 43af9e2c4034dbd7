package gce

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"time"

	"capstan/internal/hypervisor"
)

// A group is a managed instance group of the machines of an instance template,
// whose name it has. Compute Engine keeps it at a number of them: it repairs
// one that is not running, which it is not told to stop itself.

// groupTime bounds a change of a group, which is one of its machines too.
const groupTime = 15 * time.Minute

// groupManager is what of a group is said and asked (Compute Engine's API v1,
// instanceGroupManagers).
type groupManager struct {
	Name     string `json:"name"`
	Base     string `json:"baseInstanceName"`
	Template string `json:"instanceTemplate"`
	Size     int    `json:"targetSize"`
}

func (c *Client) groups(h handle) string { return c.zone(h.Zone) + "instanceGroupManagers" }

// insertGroup makes a group of no machines, which costs nothing.
func (c *Client) insertGroup(h handle) call {
	return call{method: "POST", url: c.groups(h) + "?requestId=" + requestID(), body: groupManager{
		Name: h.group(), Base: h.group(), Template: "projects/" + h.Project + "/global/instanceTemplates/" + h.group(),
	}}
}

func (c *Client) resizeGroup(h handle, replicas int) call {
	q := url.Values{"size": {strconv.Itoa(replicas)}, "requestId": {requestID()}}
	return call{method: "POST", url: c.groups(h) + "/" + h.group() + "/resize?" + q.Encode()}
}

// Scale sets how many machines a group has.
func (d *Driver) Scale(ctx context.Context, doc hypervisor.Handle, replicas int) error {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return err
	}
	if c.opts.Would != nil {
		c.opts.Would(c.resizeGroup(h, replicas).String())
		return nil
	}
	return explain(c.make(ctx, "scaling the group", c.resizeGroup(h, replicas)))
}

// group asks for a group and its machines.
func (c *Client) group(ctx context.Context, h handle) (hypervisor.RemoteStatus, error) {
	var g groupManager
	err := c.do(ctx, call{method: "GET", url: c.groups(h) + "/" + h.group()}, &g)
	if is(err, http.StatusNotFound) {
		err = &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("%w from the project %s", hypervisor.ErrGone, h.Project)}
	}
	if err != nil {
		return hypervisor.RemoteStatus{}, err
	}
	now := hypervisor.RemoteStatus{Replicas: g.Size}
	var managed struct {
		Items []managedMachine `json:"managedInstances"`
	}
	if err := c.do(ctx, call{method: "POST", url: c.groups(h) + "/" + h.group() + "/listManagedInstances"}, &managed); err != nil {
		return now, err
	}
	addresses, err := c.addresses(ctx, h)
	for _, one := range managed.Items {
		m := hypervisor.Member{
			ID: path.Base(one.Instance), Status: firstOf(one.InstanceStatus, one.CurrentAction), On: machine{Status: one.InstanceStatus}.on(),
		}
		if m.On {
			m.Address = addresses[m.ID]
		} else if now.Trouble == "" {
			now.Trouble = one.trouble()
		}
		now.On = now.On || m.On
		now.Members = append(now.Members, m)
	}
	return now, err
}

// managedMachine is what of a group's machine is asked.
type managedMachine struct {
	Instance, InstanceStatus, CurrentAction string
	LastAttempt                             struct {
		Errors struct {
			Errors []struct{ Code, Message string }
		}
	}
}

// trouble is why the last attempt to make a machine has failed, "" if it has not.
func (m managedMachine) trouble() string {
	for _, e := range m.LastAttempt.Errors.Errors {
		return firstOf(e.Message, e.Code)
	}
	return ""
}

// addresses are those of an instance's machines, by their names.
func (c *Client) addresses(ctx context.Context, h handle) (map[string]netip.Addr, error) {
	list, err := all[machine](ctx, c, c.zone(h.Zone)+"instances", "labels."+labelInstance+"="+label(h.ID), machineFields)
	addresses := map[string]netip.Addr{}
	for _, m := range list {
		addresses[m.Name] = m.address()
	}
	return addresses, err
}

// emptyGroup takes all machines of a group away, and waits until they are gone.
// Compute Engine gives each the time that it gives any machine to end.
func (c *Client) emptyGroup(ctx context.Context, h handle) error {
	const doing = "stopping the group"
	return within(ctx, groupTime, doing, func(ctx context.Context) error {
		for asked := false; ; {
			now, err := c.group(ctx, h)
			if err != nil || now.Replicas == 0 && len(now.Members) == 0 {
				return err
			}
			if !asked {
				if err := c.make(ctx, doing, c.resizeGroup(h, 0)); err != nil {
					return err
				}
				asked = true
				continue
			}
			c.opts.Progress(doing, 0, 0)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
		}
	})
}
