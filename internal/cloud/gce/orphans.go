package gce

import (
	"context"
	"net/http"
	"path"
	"slices"
	"time"

	"capstan/internal/hypervisor"
)

// pruneInstances removes what belongs to instances of which there is neither a
// template nor a group nor a machine any more: their making or their removing
// did not come to its end. What is younger may be one that is being made.
func (c *Client) pruneInstances(ctx context.Context, before time.Time) (removed []hypervisor.Resource, err error) {
	rules, err := c.listFirewalls(ctx)
	if err != nil {
		return nil, err
	}
	volumes, err := c.listUnused(ctx)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{"": true}
	for _, list := range []func(context.Context) ([]hypervisor.Resource, error){c.listTemplates, c.listGroups, c.listMachines} {
		some, err := list(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			there[r.Instance] = true
		}
	}
	for _, r := range slices.Concat(rules, volumes) {
		if there[r.Instance] || r.Created.IsZero() || r.Created.After(before) {
			continue
		}
		what := c.global() + "firewalls/"
		if r.Kind == "disk" {
			what = c.zone(r.Place) + "disks/"
		}
		err := c.delete(ctx, what+r.ID)
		if r.Kind == "disk" && is(err, http.StatusBadRequest) { // it is attached since
			continue
		}
		if err != nil {
			return removed, err
		}
		removed = append(removed, r)
	}
	return removed, nil
}

// listUnused tells of volumes that were made for an instance, and that none has
// had yet: they hold nothing.
func (c *Client) listUnused(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := aggregated[volume](ctx, c, "disks", "labels."+labelMadeFor+":*", "")
	var all []hypervisor.Resource
	for _, v := range list {
		if v.Attached != "" || len(v.Users) > 0 {
			continue
		}
		r := hypervisor.Resource{Platform: Name, Place: path.Base(v.Zone), Kind: "disk", ID: v.Name, Name: v.Labels[labelVolume], Instance: v.Labels[labelMadeFor]}
		if v.Created != nil {
			r.Created = *v.Created
		}
		all = append(all, r)
	}
	return all, err
}
