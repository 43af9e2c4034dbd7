package gce

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"

	"capstan/internal/hypervisor"
)

// serialOutput is what a serial port has said (Compute Engine's API v1,
// instances.getSerialPortOutput). Of more than 1 MiB the last is kept; Start
// and Next count from the first byte that was ever said.
type serialOutput struct {
	Contents string
	Start    int64 `json:",string"`
	Next     int64 `json:",string"`
}

func (c *Client) getSerial(h handle, start int64) call {
	q := url.Values{"port": {"1"}, "start": {strconv.FormatInt(start, 10)}}
	return call{method: "GET", url: c.zone(h.Zone) + "instances/" + h.Name + "/serialPort?" + q.Encode()}
}

// Console reads the first serial port, which the firmware, the kernel and the
// application share. A negative offset counts from the end there too.
func (d *Driver) Console(ctx context.Context, doc hypervisor.Handle, part hypervisor.ConsolePart) (*hypervisor.Console, error) {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return nil, err
	}
	if part.Member != "" {
		h.Name = part.Member
	}
	m, err := c.machine(ctx, h)
	if err != nil || m.Status == "" { // it was never started
		return spoken(serialOutput{Start: max(part.Offset, 0)}), explain(err)
	}
	var out serialOutput
	err = c.retry(ctx, func() error {
		err := c.try(ctx, c.getSerial(h, part.Offset), &out)
		if !errors.As(err, new(*APIError)) {
			return err
		}
		silent, unknown := c.silent(ctx, h)
		switch {
		case unknown != nil: // whether that is an error, either
			return unknown
		case silent:
			out, err = serialOutput{Start: max(part.Offset, 0)}, nil
		}
		return err
	})
	if err != nil {
		return nil, explain(err)
	}
	return spoken(out), nil
}

// silent tells whether a machine is not running. Of one that is off the port
// cannot be read ("is not ready"), nor, at the end, of one that is stopping,
// with an error as if that might pass.
func (c *Client) silent(ctx context.Context, h handle) (bool, error) {
	var m machine
	err := c.try(ctx, c.getMachine(h), &m)
	return m.Status != "RUNNING", err
}

// spoken is some of a console. What is no UTF-8 comes as a character of three
// bytes in the place of each of its bytes, which is to count as one.
func spoken(out serialOutput) *hypervisor.Console {
	text := out.Contents
	if int64(len(text)) != out.Next-out.Start {
		text = strings.ReplaceAll(text, "\uFFFD", "?")
	}
	return &hypervisor.Console{ReadCloser: io.NopCloser(strings.NewReader(text)), Offset: out.Start}
}
