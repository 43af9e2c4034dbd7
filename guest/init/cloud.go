//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"capstan/guest/api"
)

// cloud is a platform that has something to say to each of its machines, by
// an HTTP server that all of them reach at metadataHost.
type cloud struct {
	name     string
	userData string // path of the config that overrides the disk's
	hostname string // path of the name that the cloud gives the machine
	token    string // path of a token that every request must carry; "": none
	flavor   string // value of Metadata-Flavor in every request and answer; ""
	clock    string // address of a server of the time, by NTP
}

// findCloud tells by the DMI names at id on which cloud the machine runs, if
// it does: EC2's documentation, "Detect whether a host is an EC2 instance",
// and Compute Engine's, "Detect if a VM is running in Compute Engine".
func findCloud(id string) (c cloud, ok bool) {
	switch {
	case attribute(id, "sys_vendor") == "Amazon EC2",
		strings.HasSuffix(attribute(id, "bios_version"), ".amazon"): // instances on Xen
		return cloud{
			name: "EC2", userData: "/latest/user-data", hostname: "/latest/meta-data/local-hostname",
			token: "/latest/api/token", clock: "169.254.169.123",
		}, true
	case attribute(id, "product_name") == "Google Compute Engine":
		const instance = "/computeMetadata/v1/instance/"
		return cloud{
			name: "GCE", userData: instance + "attributes/" + api.UserData, hostname: instance + "hostname",
			flavor: "Google", clock: metadataHost,
		}, true
	}
	return cloud{}, false
}

// askCloud lets the cloud that the machine runs on override the disk's config.
// Whatever is wrong with what the cloud says is told, and the disk's config
// holds.
func (g *guest) askCloud(c cloud) {
	ctx, cancel := context.WithTimeout(context.Background(), metadataWait)
	defer cancel()
	m := &metadata{cloud: c, dial: dialMetadata}
	doc, err := m.get(ctx, c.userData)
	switch {
	case errors.Is(err, errNoMetadata):
		g.log.debugf("%s has no user-data for this machine", c.name)
	case err != nil:
		g.log.warnf("asking %s for the user-data: %v; going on with the disk's config", c.name, err)
		return
	default:
		cfg, err := override(g.cfg, doc)
		if err != nil {
			g.log.warnf("%s's user-data is no instance config: %v; going on with the disk's", c.name, err)
			break
		}
		g.cfg = cfg
		g.log.verbose = cfg.Verbose
		g.log.debugf("read the config that %s has for this machine", c.name)
	}
	if g.cfg.Hostname == "" {
		name, err := m.get(ctx, c.hostname)
		if err != nil {
			g.log.warnf("asking %s for the host name: %v", c.name, err)
		}
		g.cfg.Hostname = givenName(string(name))
	}
	g.setKernel() // again, by what holds now
}

// override merges user-data into the disk's config as api.UserData describes.
func override(disk api.Config, doc []byte) (api.Config, error) {
	patch, err := document(doc)
	if err != nil {
		return disk, err
	}
	if _, ok := patch["version"]; !ok {
		return disk, errors.New("it has no version")
	}
	marshalled, err := json.Marshal(disk)
	if err != nil {
		return disk, err
	}
	whole, err := document(marshalled)
	if err != nil {
		return disk, err
	}
	if env, ok := patch["env"].([]any); ok {
		before, _ := whole["env"].([]any) // may have none
		patch["env"] = append(before, env...)
	}
	merge(whole, patch)
	if marshalled, err = json.Marshal(whole); err != nil {
		return disk, err
	}
	cfg, err := parseConfig(marshalled)
	if err != nil {
		return disk, err
	}
	// What the disk is made of, and the way on which the user-data came.
	cfg.Root, cfg.Console, cfg.Control = disk.Root, disk.Console, disk.Control
	n := &disk.Network
	cfg.Network.None, cfg.Network.Address, cfg.Network.Gateway = n.None, n.Address, n.Gateway
	return cfg, nil
}

// document reads a JSON object, its numbers as they are written.
func document(doc []byte) (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(string(doc)))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		return nil, err
	}
	if all == nil || d.More() {
		return nil, errors.New("it is not one JSON object")
	}
	return all, nil
}

// merge applies a merge patch (RFC 7396, section 2) to an object.
func merge(target, patch map[string]any) {
	for key, value := range patch {
		inner, ok := value.(map[string]any)
		switch {
		case value == nil:
			delete(target, key)
		case ok:
			old, _ := target[key].(map[string]any) // anything else gives way
			if old == nil {
				old = map[string]any{}
			}
			merge(old, inner)
			target[key] = old
		default:
			target[key] = value
		}
	}
}

// givenName is a name that a cloud gives, or its first label where the whole
// is longer than Linux allows; "" if it is no host name (RFC 1123, 2.1).
func givenName(name string) string {
	const longest = 64
	name = strings.TrimSpace(name)
	if len(name) > longest {
		name, _, _ = strings.Cut(name, ".")
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.') {
			return ""
		}
	}
	if len(name) > longest {
		return ""
	}
	return name
}
