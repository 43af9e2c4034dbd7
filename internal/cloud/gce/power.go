package gce

import (
	"context"
	"errors"
	"net/url"
	"time"

	"capstan/internal/hypervisor"
)

// makeTime bounds the making of something, and powerTime the switching on and
// off of a machine beyond the time that it is given: Compute Engine itself cuts
// the power of a machine that does not end, after some 90 seconds.
const (
	makeTime  = 10 * time.Minute
	powerTime = 5 * time.Minute
)

const starting, stopping = "starting the machine", "stopping the machine"

// Start makes the machine of its template, or switches on the one that there
// is.
func (d *Driver) Start(ctx context.Context, doc hypervisor.Handle) error {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return err
	}
	if c.opts.Would != nil {
		c.opts.Would(c.insertMachine(h).String())
		return nil
	}
	return explain(within(ctx, makeTime, starting, func(ctx context.Context) error { return c.start(ctx, h) }))
}

func (c *Client) start(ctx context.Context, h handle) error {
	for {
		m, err := c.machine(ctx, h)
		switch {
		case err != nil:
			return err
		case m.Status == "":
			return c.make(ctx, starting, c.insertMachine(h))
		case m.Status == "STOPPING" || m.Status == "SUSPENDING":
			c.opts.Progress("waiting for the machine to stop", 0, 0)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
		case m.on():
			return nil
		case m.Status == "SUSPENDED":
			return c.make(ctx, starting, c.power(h, "resume", nil))
		default:
			return c.make(ctx, starting, c.power(h, "start", nil))
		}
	}
}

func (c *Client) insertMachine(h handle) call {
	q := url.Values{"sourceInstanceTemplate": {"projects/" + h.Project + "/global/instanceTemplates/" + h.group()}, "requestId": {requestID()}}
	return call{method: "POST", url: c.zone(h.Zone) + "instances?" + q.Encode(), body: map[string]string{"name": h.Name}}
}

// power is a call that switches a machine on or off.
func (c *Client) power(h handle, how string, q url.Values) call {
	if q == nil {
		q = url.Values{}
	}
	q.Set("requestId", requestID())
	return call{method: "POST", url: c.zone(h.Zone) + "instances/" + h.Name + "/" + how + "?" + q.Encode()}
}

// Stop has the machine's power button pressed, and does not let the machine
// take its time after grace.
func (d *Driver) Stop(ctx context.Context, doc hypervisor.Handle, grace time.Duration) error {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return err
	}
	if h.Group {
		return explain(c.emptyGroup(ctx, h))
	}
	m, err := c.machine(ctx, h)
	if err != nil || !m.on() {
		return explain(err)
	}
	if grace > 0 {
		bound, cancel := context.WithTimeout(ctx, grace)
		err := c.make(bound, stopping, c.power(h, "stop", nil))
		cancel()
		if ctx.Err() != nil || err == nil || !errors.Is(bound.Err(), context.DeadlineExceeded) {
			return explain(err)
		}
	}
	return explain(within(ctx, powerTime, stopping, func(ctx context.Context) error {
		return c.make(ctx, stopping, c.power(h, "stop", url.Values{"noGracefulShutdown": {"true"}}))
	}))
}
