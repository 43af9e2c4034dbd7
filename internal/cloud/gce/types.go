package gce

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"capstan/internal/hypervisor"
)

// families are the machine types that are chosen from, the cheapest first: all
// of them take disks of the kind pd-balanced, gVNIC and images for UEFI.
var families = map[string][]string{"amd64": {"e2-", "n2-", "n2d-"}, "arm64": {"t2a-"}}

// machineType is what of a type is asked (Compute Engine's API v1,
// machineTypes).
type machineType struct {
	Name       string
	GuestCPUs  int    `json:"guestCpus"`
	MemoryMB   int64  `json:"memoryMb"`
	Arch       string `json:"architecture"`
	Deprecated any    `json:"deprecated"`
}

// listTypes lists a zone's machine types, or asks for one.
func (c *Client) listTypes(zone, name, page string) call {
	if name != "" {
		return call{method: "GET", url: c.zone(zone) + "machineTypes/" + url.PathEscape(name)}
	}
	q := url.Values{"maxResults": {"500"}}
	if page != "" {
		q.Set("pageToken", page)
	}
	return call{method: "GET", url: c.zone(zone) + "machineTypes?" + q.Encode()}
}

// machineType is the one that was asked for, or the smallest in the zone with
// the memory and the CPUs.
func (c *Client) machineType(ctx context.Context, zone string, spec *hypervisor.RemoteSpec, arch string) (string, error) {
	if name := spec.Cloud.Type; name != "" {
		var t machineType
		err := c.do(ctx, c.listTypes(zone, name, ""), &t)
		switch {
		case is(err, http.StatusNotFound):
			return "", &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("there is no machine type %s in the zone %s", name, zone), Remedy: "gcloud compute machine-types list --zones " + zone}
		case err == nil && t.Arch != "" && t.Arch != architectures[arch]:
			return "", &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("the machine type %s is for %s, and the image for %s", name, t.Arch, architectures[arch]), Remedy: "another --type"}
		}
		return name, err
	}
	all, err := c.machineTypes(ctx, zone)
	if is(err, http.StatusNotFound) {
		err = &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("there is no zone %s", zone), Remedy: "gcloud compute zones list"}
	}
	if err != nil {
		return "", err
	}
	for _, family := range families[arch] {
		var fit []machineType
		for _, t := range all {
			if strings.HasPrefix(t.Name, family) && t.Deprecated == nil && t.GuestCPUs >= spec.CPUs && t.MemoryMB<<20 >= spec.Memory {
				fit = append(fit, t)
			}
		}
		if len(fit) > 0 {
			return slices.MinFunc(fit, func(a, b machineType) int {
				return cmp.Or(cmp.Compare(a.MemoryMB, b.MemoryMB), cmp.Compare(a.GuestCPUs, b.GuestCPUs), strings.Compare(a.Name, b.Name))
			}).Name, nil
		}
	}
	return "", &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("the zone %s has no machine type with %d CPUs and %d MiB of memory", zone, spec.CPUs, spec.Memory>>20), Remedy: "--type TYPE, or another --zone"}
}

// machineTypes lists a zone's.
func (c *Client) machineTypes(ctx context.Context, zone string) ([]machineType, error) {
	const pages = 20
	var all []machineType
	page := ""
	for range pages {
		var list struct {
			Items []machineType
			Next  string `json:"nextPageToken"`
		}
		if err := c.do(ctx, c.listTypes(zone, "", page), &list); err != nil {
			return nil, err
		}
		all = append(all, list.Items...)
		if page = list.Next; page == "" {
			break
		}
	}
	return all, nil
}
