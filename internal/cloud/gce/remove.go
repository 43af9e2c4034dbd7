package gce

import (
	"context"
	"net/http"
	"path"
	"time"

	"capstan/internal/hypervisor"
)

// removeTime bounds the removal of one thing.
const removeTime = 10 * time.Minute

// Remove deletes the machine with its disk, the template and the firewall
// rules, as far as there are any. Volumes stay that it ever had.
func (d *Driver) Remove(ctx context.Context, doc hypervisor.Handle) error {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return err
	}
	return explain(c.removeAll(ctx, h))
}

func (c *Client) removeAll(ctx context.Context, h handle) error {
	var err error
	if h.Group { // first: it would make its machines anew
		err = c.delete(ctx, c.groups(h)+"/"+h.group())
	}
	// By its label: nothing else says for certain whose something is.
	if err == nil {
		err = c.removeLabelled(ctx, "instances", h)
	}
	if err == nil {
		err = c.removeLabelled(ctx, "disks", h)
	}
	if err == nil && h.Volumes {
		err = c.removeUnused(ctx, h)
	}
	for _, one := range []string{"instanceTemplates/" + h.group(), "firewalls/" + h.group(), "firewalls/" + h.group() + "-6"} {
		if err != nil {
			return err
		}
		err = c.delete(ctx, c.global()+one)
	}
	return err
}

// removeLabelled deletes what in the zone carries the instance's ID.
func (c *Client) removeLabelled(ctx context.Context, kind string, h handle) error {
	list, err := all[struct{ Name string }](ctx, c, c.zone(h.Zone)+kind, "labels."+labelInstance+"="+label(h.ID), "name")
	if is(err, http.StatusNotFound) {
		return nil // there is no such zone
	} else if err != nil {
		return err
	}
	for _, one := range list {
		if err := c.delete(ctx, c.zone(h.Zone)+kind+"/"+one.Name); err != nil {
			return err
		}
	}
	return nil
}

// delete deletes something, which may be gone already.
func (c *Client) delete(ctx context.Context, what string) error {
	var op operation
	err := c.do(ctx, call{method: "DELETE", url: what + "?requestId=" + requestID()}, &op)
	if is(err, http.StatusNotFound) {
		return nil
	}
	if err == nil {
		err = c.awaitWithin(ctx, removeTime, "removing "+path.Base(what), op)
	}
	return err
}
