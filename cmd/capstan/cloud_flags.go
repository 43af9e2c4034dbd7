package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/cloud/ec2"
	"capstan/internal/cloud/gce"
	"capstan/internal/hypervisor"
)

// cloudFlags are run's for clouds.
type cloudFlags struct {
	region, profile        string
	project, zone, account string
	kind, subnet           string
	allow                  []string
	spot                   bool
	volumes                []hypervisor.Volume // those that -v asks for
}

func (f *cloudFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.region, "region", "", "on ec2: the `region` (default: as the AWS configuration says)")
	fl.StringVar(&f.profile, "iam-profile", "", "on ec2: the instance profile that is the machine's identity: `NAME` or ARN (default: none)")
	fl.StringVar(&f.project, "project", "", "on gce: the `project` (default: as gcloud and the credentials say)")
	fl.StringVar(&f.zone, "zone", "", "on gce: the `zone` (default: as gcloud says)")
	fl.StringVar(&f.account, "service-account", "", "on gce: the `EMAIL` of the machine's own account (default: none)")
	fl.StringVar(&f.kind, "type", "", "in a cloud: the machine's `type` (default: the smallest with the memory and CPUs)")
	fl.StringVar(&f.subnet, "subnet", "", "in a cloud: the `subnet` (default: the cloud's own)")
	fl.StringArrayVar(&f.allow, "allow", nil, "in a cloud: open the -p ports to these addresses, such as 203.0.113.7/32: `CIDR`")
	fl.BoolVar(&f.spot, "spot", false, "in a cloud: a machine that is cheaper and may be taken away")
}

// cloudFlag is a flag of run's for clouds: for one of them, where another has
// something else instead, or for any.
type cloudFlag struct{ name, cloud, instead string }

var cloudFlagList = []cloudFlag{
	{"region", ec2.Name, "--zone ZONE"},
	{"iam-profile", ec2.Name, "--service-account EMAIL"},
	{"project", gce.Name, "AWS_PROFILE=NAME, or other credentials of that account"},
	{"zone", gce.Name, "--region REGION, or --subnet SUBNET of that zone"},
	{"service-account", gce.Name, "--iam-profile NAME"},
	{"type", "", ""}, {"subnet", "", ""}, {"allow", "", ""}, {"spot", "", ""},
}

// refuse is what is wrong with a flag that was given for a platform.
func (f cloudFlag) refuse(p hypervisor.Platform) error {
	switch {
	case !p.Capabilities().Cloud && f.cloud != "":
		return &hinted{fmt.Errorf("--%s: %s is no cloud", f.name, p.Name()), "--on " + f.cloud}
	case !p.Capabilities().Cloud:
		return &hinted{fmt.Errorf("--%s: %s is no cloud", f.name, p.Name()), "--on ec2 or --on gce"}
	case f.cloud != "" && f.cloud != p.Name():
		return &hinted{fmt.Errorf("--%s is for %s, and this is %s", f.name, f.cloud, p.Name()), f.instead}
	}
	return nil
}

// validZone is what zones of Compute Engine are called.
var validZone = regexp.MustCompile(`^[a-z]+-[a-z]+\d+-[a-z0-9]+$`)

func checkZone(name string) error {
	if name == "" || validZone.MatchString(name) {
		return nil
	}
	return &hinted{fmt.Errorf("%q is no name of a zone", name), "one such as europe-west4-a"}
}

// regionOf is the region that a zone of Compute Engine is in.
func regionOf(zone string) string { return zone[:max(0, strings.LastIndexByte(zone, '-'))] }

// parseSource reads addresses for which ports are to be open.
func parseSource(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, &hinted{fmt.Errorf("%q is no range of addresses", text), "such as --allow 203.0.113.7/32, or --allow 0.0.0.0/0 for everybody"}
	}
	return p.Masked(), nil
}

// spec is what the flags ask of a cloud, and the settings where they do not.
func (f *cloudFlags) spec(usual cloudSettings) (hypervisor.CloudSpec, error) {
	place := firstOf(f.region, f.zone)
	if f.region != "" && f.region != usual.Region || f.zone != "" && regionOf(f.zone) != regionOf(usual.Zone) {
		usual.Subnet = "" // it is elsewhere
	}
	s := hypervisor.CloudSpec{
		Project: firstOf(f.project, usual.Project), Place: firstOf(place, usual.Region, usual.Zone), Type: firstOf(f.kind, usual.Type),
		Subnet: firstOf(f.subnet, usual.Subnet), Identity: firstOf(f.profile, f.account, usual.Identity), Spot: f.spot, Volumes: f.volumes,
	}
	if err := checkRegion(f.region); err != nil {
		return s, err
	}
	if err := checkZone(f.zone); err != nil {
		return s, err
	}
	allow := f.allow
	if len(allow) == 0 {
		allow = usual.Allow
	}
	for _, text := range allow {
		p, err := parseSource(text)
		if err != nil {
			return s, err
		}
		s.Sources = append(s.Sources, p)
	}
	return s, nil
}

// forCloud readies the flags for a platform, and refuses those that it has no
// use for. The ports of a cloud's machine are its own: -p 80 is 80:80 there.
func (f *runFlags) forCloud(cmd *cobra.Command, p hypervisor.Platform) error {
	for _, flag := range cloudFlagList {
		if !cmd.Flags().Changed(flag.name) {
			continue
		}
		if err := flag.refuse(p); err != nil {
			return err
		}
	}
	if !p.Capabilities().Cloud {
		return nil
	}
	if _, err := f.cloud.spec(cloudSettings{}); err != nil {
		return err
	}
	volumes, shares, err := takeVolumes(f.shares)
	if err != nil {
		return err
	}
	f.cloud.volumes, f.shares = append(f.cloud.volumes, volumes...), shares
	for n, text := range f.ports {
		port, protocol, given := strings.Cut(text, "/")
		if given {
			protocol = "/" + protocol
		}
		host, guest, both := strings.Cut(port, ":")
		if !both {
			guest = host
		}
		if guest != host {
			return &hinted{fmt.Errorf("-p %s: a machine on %s has an address of its own, with its own ports", text, p.Name()), "-p " + guest[strings.LastIndexByte(guest, ':')+1:] + protocol}
		}
		f.ports[n] = host + ":" + guest + protocol
	}
	return nil
}

// pruneAway removes what nothing needs any more from a platform.
func (a *app) pruneAway(cmd *cobra.Command, on string, all bool) error {
	for _, r := range a.remotes() {
		if pruner, ok := r.(hypervisor.Pruner); ok && r.Name() == on {
			return a.prune(cmd, pruner, all)
		}
	}
	return &hypervisor.CannotError{Platform: on, What: "prune"}
}

// prune removes what is left over on a platform, and prints what that was.
func (a *app) prune(cmd *cobra.Command, p hypervisor.Pruner, all bool) error {
	hide := a.waits.show(cmd)
	removed, err := p.Prune(cmd.Context(), all)
	hide()
	for _, one := range removed {
		fmt.Fprintln(cmd.OutOrStdout(), "removed", one.Kind, one.ID)
	}
	return err
}

// askEach asks platforms for what they have. A cloud that there are no
// credentials for is one that nobody here uses; strange is said where that is
// each of them.
func askEach[P, T any](platforms []P, ask func(P) ([]T, error)) (all []T, failed, strange error) {
	used := false
	for _, p := range platforms {
		some, err := ask(p)
		if all = append(all, some...); errors.Is(err, hypervisor.ErrNoCredentials) {
			strange = errors.Join(strange, err)
			continue
		}
		used, failed = true, errors.Join(failed, err)
	}
	if used {
		strange = nil
	}
	return all, failed, strange
}

// listAway is what of Capstan's there is on all platforms that can tell,
// whoever has made it.
func (a *app) listAway(cmd *cobra.Command) ([]hypervisor.Resource, error) {
	var listers []hypervisor.Lister
	for _, r := range a.remotes() {
		if l, ok := r.(hypervisor.Lister); ok {
			listers = append(listers, l)
		}
	}
	rows, failed, strange := askEach(listers, func(l hypervisor.Lister) ([]hypervisor.Resource, error) { return l.List(cmd.Context()) })
	if strange != nil {
		for _, line := range strings.Split(strange.Error(), "\n") {
			note(cmd, "%s", line)
		}
	}
	return rows, failed
}

// printAway prints a list of what there is on platforms that are elsewhere.
// What cannot be asked is told, and does not hide the rest.
func (a *app) printAway(cmd *cobra.Command, format string, quiet bool) error {
	rows, failed := a.listAway(cmd)
	slices.SortFunc(rows, func(x, y hypervisor.Resource) int {
		return cmp.Or(strings.Compare(x.Platform, y.Platform), strings.Compare(x.Place, y.Place), strings.Compare(x.Kind, y.Kind), strings.Compare(x.ID, y.ID))
	})
	if quiet {
		format = "{{.ID}}"
	}
	err := table[hypervisor.Resource]{
		header: []string{"PLATFORM", "PLACE", "KIND", "ID", "INSTANCE", "STATUS", "ADDRESS", "CREATED"},
		cells: func(r hypervisor.Resource) []string {
			return []string{r.Platform, firstOf(r.Place, "-"), r.Kind, r.ID, firstOf(r.Name, "-"), firstOf(r.Status, "-"), firstOf(r.Address, "-"), ago(r.Created)}
		},
	}.print(cmd, format, rows)
	return errors.Join(err, failed)
}
