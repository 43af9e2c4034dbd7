package gce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"capstan/internal/hypervisor"
)

// List tells all that capstan has made in the project.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Resource, error) {
	c, err := d.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []hypervisor.Resource
	for _, list := range []func(context.Context) ([]hypervisor.Resource, error){
		c.listMachines, c.listDisks, c.listTemplates, c.listImages, c.listGroups, c.listFirewalls, c.leftBuckets,
	} {
		some, e := list(ctx)
		all, err = append(all, some...), errors.Join(err, explain(e))
	}
	volumes, e := d.Volumes(ctx)
	for _, v := range volumes {
		all = append(all, v.Resource("disk"))
	}
	named(all)
	return all, errors.Join(err, e)
}

// named gives what has no labels, as rules and groups have none, the name of
// its instance.
func named(all []hypervisor.Resource) {
	names := map[string]string{}
	for _, r := range all {
		if r.Name != "" {
			names[r.Instance] = r.Name
		}
	}
	for n, r := range all {
		if r.Name == "" && r.Instance != "" {
			all[n].Name = names[r.Instance]
		}
	}
}

// ownGroup is what rules and groups are called that are an instance's.
var ownGroup = regexp.MustCompile(`^capstan-([0-9a-f]{12})(-6)?$`)

// unlabelled is a rule or a group as lists have it.
type unlabelled struct {
	Name    string
	Zone    string
	Created time.Time `json:"creationTimestamp"`
}

// ofInstances are those that are an instance's.
func ofInstances(list []unlabelled, kind string) []hypervisor.Resource {
	var all []hypervisor.Resource
	for _, one := range list {
		match := ownGroup.FindStringSubmatch(one.Name)
		if match == nil {
			continue
		}
		r := hypervisor.Resource{Platform: Name, Kind: kind, ID: one.Name, Instance: match[1], Created: one.Created}
		if one.Zone != "" {
			r.Place = path.Base(one.Zone)
		}
		all = append(all, r)
	}
	return all
}

func (c *Client) listFirewalls(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := all[unlabelled](ctx, c, c.global()+"firewalls", "", "")
	return ofInstances(list, "firewall"), err
}

func (c *Client) listGroups(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := aggregated[unlabelled](ctx, c, "instanceGroupManagers", "", "")
	return ofInstances(list, "instanceGroupManager"), err
}

// leftBuckets lists those that pushes have made. Who may not see buckets has
// none made.
func (c *Client) leftBuckets(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := c.ownBuckets(ctx)
	if is(err, http.StatusForbidden) {
		return nil, nil
	}
	return list, err
}

// labelled is something with labels, as lists have it; of an instance, it has
// the addresses too.
type labelled struct {
	machine
	Properties struct{ Labels map[string]string }
}

func (l labelled) resource(kind string) hypervisor.Resource {
	labels := l.Labels
	if len(labels) == 0 {
		labels = l.Properties.Labels
	}
	r := hypervisor.Resource{
		Platform: Name, Kind: kind, ID: l.Name, Name: labels["capstan-name"], Instance: labels[labelInstance],
		Image: labels["capstan-image"], Status: strings.ToLower(l.Status), Created: l.Created,
	}
	if kind == "image" {
		r.Name = r.Image
	}
	if l.Zone != "" {
		r.Place = path.Base(l.Zone)
	}
	if a := l.address(); l.on() && a.IsValid() {
		r.Address = a.String()
	}
	return r
}

func resources(list []labelled, kind string) []hypervisor.Resource {
	var all []hypervisor.Resource
	for _, one := range list {
		all = append(all, one.resource(kind))
	}
	return all
}

const anyInstance = "labels." + labelInstance + ":*"

func (c *Client) listMachines(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := aggregated[labelled](ctx, c, "instances", anyInstance, machineFields)
	return resources(list, "instance"), err
}

func (c *Client) listDisks(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := aggregated[labelled](ctx, c, "disks", anyInstance, "")
	return resources(list, "disk"), err
}

func (c *Client) listTemplates(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := all[labelled](ctx, c, c.global()+"instanceTemplates", "properties."+anyInstance, "name,creationTimestamp,properties/labels")
	return resources(list, "instanceTemplate"), err
}

func (c *Client) listImages(ctx context.Context) ([]hypervisor.Resource, error) {
	list, err := all[labelled](ctx, c, c.global()+"images", "labels.capstan-disk:*", "")
	return resources(list, "image"), err
}

// maxPages bounds how much of a list is read.
const maxPages = 50

// machineFields are what of machines is asked: each may have 256 KiB of metadata.
const machineFields = "name,zone,status,labels,creationTimestamp,networkInterfaces(networkIP,accessConfigs/natIP)"

// query asks for the first page of a list with a filter, and for some fields
// alone of what is at items ("Partial response"); "" is no filter, and all.
func query(filter, items, fields string) url.Values {
	q := url.Values{"maxResults": {"500"}}
	if filter != "" {
		q.Set("filter", filter)
	}
	if fields != "" {
		q.Set("fields", "nextPageToken,"+items+"("+fields+")")
	}
	return q
}

func page(what string, q url.Values) call { return call{method: "GET", url: what + "?" + q.Encode()} }

// pages reads a list, page by page.
func (c *Client) pages(ctx context.Context, what string, q url.Values, each func(json.RawMessage) error) error {
	for range maxPages {
		var list struct {
			Items json.RawMessage
			Next  string `json:"nextPageToken"`
		}
		err := c.do(ctx, page(what, q), &list)
		if err == nil && len(list.Items) > 0 {
			err = each(list.Items)
		}
		if err != nil || list.Next == "" {
			return err
		}
		q.Set("pageToken", list.Next)
	}
	return fmt.Errorf("%s: %s has more pages than %d", Name, what, maxPages)
}

// all reads a list. Of one that has something, a page may be empty.
func all[T any](ctx context.Context, c *Client, what, filter, fields string) (list []T, err error) {
	err = c.pages(ctx, what, query(filter, "items", fields), func(doc json.RawMessage) error {
		var some []T
		if err := json.Unmarshal(doc, &some); err != nil {
			return fmt.Errorf("reading the list of %s: %w", path.Base(what), err)
		}
		list = append(list, some...)
		return nil
	})
	return list, err
}

// aggregated reads a list of what is in any zone or region, or in none.
func aggregated[T any](ctx context.Context, c *Client, kind, filter, fields string) (list []T, err error) {
	what := c.compute + "projects/" + url.PathEscape(c.opts.Project) + "/aggregated/" + kind
	err = c.pages(ctx, what, query(filter, "items/*/"+kind, fields), func(doc json.RawMessage) error {
		var scopes map[string]map[string]json.RawMessage
		err := json.Unmarshal(doc, &scopes)
		for _, scope := range scopes {
			if some := []T(nil); err == nil && len(scope[kind]) > 0 {
				err = json.Unmarshal(scope[kind], &some)
				list = append(list, some...)
			}
		}
		if err != nil {
			return fmt.Errorf("reading the list of %s: %w", kind, err)
		}
		return nil
	})
	return list, err
}
