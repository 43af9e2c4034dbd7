package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
)

// Managed instance groups: one is at its size once the operation is at its end
// that set it.

func (c *compute) groupRoutes(mux *http.ServeMux) {
	const groups = "/compute/v1/projects/{project}/zones/{zone}/instanceGroupManagers"
	mux.HandleFunc("POST "+groups, inZone(c.insertGroup))
	mux.HandleFunc("GET "+groups, inZone(unfiltered(func(w http.ResponseWriter, _ *http.Request) {
		write(w, &computepb.InstanceGroupManagerList{Items: sorted(c.groups)})
	})))
	mux.HandleFunc("GET /compute/v1/projects/{project}/aggregated/instanceGroupManagers", unfiltered(func(w http.ResponseWriter, _ *http.Request) {
		write(w, &computepb.InstanceGroupManagerAggregatedList{Items: map[string]*computepb.InstanceGroupManagersScopedList{
			"zones/" + zones[0]: {InstanceGroupManagers: sorted(c.groups)},
		}})
	}))
	mux.HandleFunc("GET "+groups+"/{name}", c.withGroup(func(w http.ResponseWriter, _ *http.Request, g *computepb.InstanceGroupManager) {
		write(w, g)
	}))
	mux.HandleFunc("POST "+groups+"/{name}/resize", c.withGroup(c.resizeGroup))
	mux.HandleFunc("POST "+groups+"/{name}/listManagedInstances", c.withGroup(func(w http.ResponseWriter, _ *http.Request, g *computepb.InstanceGroupManager) {
		list := &computepb.InstanceGroupManagersListManagedInstancesResponse{}
		for _, m := range c.managed(g) {
			list.ManagedInstances = append(list.ManagedInstances, &computepb.ManagedInstance{
				Instance: proto.String(m.GetZone() + "/instances/" + m.GetName()), InstanceStatus: m.Status, CurrentAction: proto.String("NONE"),
			})
		}
		list.ManagedInstances = append(list.ManagedInstances, c.lacking[g.GetName()]...)
		write(w, list)
	}))
	mux.HandleFunc("DELETE "+groups+"/{name}", c.withGroup(func(w http.ResponseWriter, r *http.Request, g *computepb.InstanceGroupManager) {
		if c.new(w, r) {
			c.starting(w, r, "delete", func() error {
				err := c.resize(g, r, 0)
				delete(c.groups, g.GetName())
				return err
			})
		}
	}))
}

func (c *compute) withGroup(next func(http.ResponseWriter, *http.Request, *computepb.InstanceGroupManager)) http.HandlerFunc {
	return inZone(func(w http.ResponseWriter, r *http.Request) {
		g := c.groups[r.PathValue("name")]
		if g == nil {
			missing(w, r)
			return
		}
		next(w, r, g)
	})
}

// templateOf is what a group's machines are made of.
func (c *compute) templateOf(g *computepb.InstanceGroupManager) *computepb.InstanceTemplate {
	from := g.GetInstanceTemplate()
	return c.templates[from[strings.LastIndexByte(from, '/')+1:]]
}

func (c *compute) insertGroup(w http.ResponseWriter, r *http.Request) {
	g := &computepb.InstanceGroupManager{}
	if !c.read(w, r, g) {
		return
	}
	const longestBase = 58
	switch {
	case !validName.MatchString(g.GetName()), !validName.MatchString(g.GetBaseInstanceName()), len(g.GetBaseInstanceName()) > longestBase:
		refuse(w, http.StatusBadRequest, "Invalid name %s or base name %s", g.GetName(), g.GetBaseInstanceName())
	case g.TargetSize == nil || g.GetTargetSize() != 0:
		refuse(w, http.StatusBadRequest, "Invalid size: %v", g.TargetSize)
	case c.templateOf(g) == nil:
		refuse(w, http.StatusNotFound, "The resource '%s' was not found", g.GetInstanceTemplate())
	case c.groups[g.GetName()] != nil:
		taken(w, g.GetName())
	default:
		g.Zone, g.CreationTimestamp = proto.String(zoneURL+r.PathValue("project")+"/zones/"+r.PathValue("zone")), now()
		c.groups[g.GetName()] = g
		c.starting(w, r, "insert", func() error { return nil })
	}
}

func (c *compute) resizeGroup(w http.ResponseWriter, r *http.Request, g *computepb.InstanceGroupManager) {
	size, err := strconv.ParseInt(r.FormValue("size"), 10, 32)
	if err != nil || size < 0 {
		refuse(w, http.StatusBadRequest, "Invalid size %s", r.FormValue("size"))
		return
	}
	if !c.new(w, r) {
		return
	}
	g.TargetSize = proto.Int32(int32(size))
	c.starting(w, r, "resize", func() error { return c.resize(g, r, int(size)) })
}

// managed are the machines of a group.
func (c *compute) managed(g *computepb.InstanceGroupManager) []*machine {
	var list []*machine
	for _, m := range sorted(c.machines) {
		if strings.HasPrefix(m.GetName(), g.GetBaseInstanceName()+"-") {
			list = append(list, m)
		}
	}
	return list
}

// resize brings a group to a size.
func (c *compute) resize(g *computepb.InstanceGroupManager, r *http.Request, size int) error {
	var err error
	have, zone := c.managed(g), r.PathValue("zone")
	for _, m := range have[min(size, len(have)):] {
		err = errors.Join(err, c.discard(m))
	}
	c.lacking[g.GetName()] = nil
	for n := len(have); n < size; n++ {
		c.grown++
		name := fmt.Sprintf("%s-%04d", g.GetBaseInstanceName(), c.grown)
		if lack := lacking(zone, c.templateOf(g).GetProperties().GetMachineType()); lack != nil {
			c.lacking[g.GetName()] = append(c.lacking[g.GetName()], inVain(zoneURL+r.PathValue("project")+"/zones/"+zone+"/instances/"+name, lack))
			continue // the group goes on trying, and the operation is at its end
		}
		m, boot := c.place(c.templateOf(g), name, r.PathValue("project"), zone)
		err = errors.Join(err, boot())
		m.by = &work{operation: &computepb.Operation{Status: computepb.Operation_DONE.Enum()}, end: func() error { return nil }}
	}
	return err
}

// inVain is a machine that a group could not make yet.
func inVain(url string, why *opError) *computepb.ManagedInstance {
	return &computepb.ManagedInstance{
		Instance: &url, CurrentAction: proto.String("CREATING"),
		LastAttempt: &computepb.ManagedInstanceLastAttempt{Errors: &computepb.ManagedInstanceLastAttemptErrors{
			Errors: []*computepb.Errors{{Code: &why.code, Message: &why.text}},
		}},
	}
}
