package main

import (
	"context"
	"fmt"
	"strings"

	"capstan/internal/cloud/ec2"
	"capstan/internal/cloud/gce"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/qemu"
	"capstan/internal/hypervisor/vbox"
	"capstan/internal/hypervisor/vmware"
	"capstan/internal/hypervisor/vsphere"
	"capstan/internal/instance"
)

// local is a driver of a hypervisor on this host.
type local interface {
	hypervisor.Driver
	// Installed looks for the hypervisor, and starts nothing.
	Installed() error
}

// locals are those drivers, in the order in which one is chosen where nobody
// says it.
func locals(s settings) []local {
	return []local{qemu.New(qemu.Options{Path: s.QEMU}), vbox.New(vbox.Options{Path: s.VBox}), vmware.New(vmware.Options{Path: s.VMRun})}
}

// remotes are the drivers of platforms that are elsewhere.
func remotes(s settings) []hypervisor.Remote {
	return []hypervisor.Remote{
		vsphere.New(s.VSphere),
		ec2.New(ec2Options(s)),
		gce.New(gceOptions(s)),
	}
}

// remotes are those that this process uses, and closes in the end.
func (a *app) remotes() []hypervisor.Remote {
	if a.away == nil {
		a.away = remotes(a.settings)
	}
	return a.away
}

// close ends the connections of this process.
func (a *app) close() {
	for _, r := range a.away {
		_ = r.Close() // a session that could not be ended ends by itself
	}
}

// platforms are the names of all drivers.
func platforms() []string {
	var names []string
	for _, d := range locals(settings{}) {
		names = append(names, d.Name())
	}
	for _, r := range remotes(settings{}) {
		names = append(names, r.Name())
	}
	return names
}

// driverOf is the driver of a platform of this host.
func driverOf(s settings, platform string) (hypervisor.Driver, error) {
	for _, d := range locals(s) {
		if d.Name() == platform {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%s is no platform of this host", platform)
}

// platformOf is a platform, wherever it is.
func platformOf(s settings, platform string) (hypervisor.Platform, error) {
	if d, err := driverOf(s, platform); err == nil {
		return d, nil
	}
	for _, r := range remotes(s) {
		if r.Name() == platform {
			return r, nil
		}
	}
	return nil, &hinted{fmt.Errorf("--on %s: there is no such platform", platform), "--on " + strings.Join(platforms(), " or --on ")}
}

// platform is the one for a new instance: the one that is asked for, or the
// first whose hypervisor is installed.
func (a *app) platform(on string) (hypervisor.Platform, error) {
	if on := firstOf(on, a.settings.On); on != "" {
		return platformOf(a.settings, on)
	}
	all := locals(a.settings)
	for _, d := range all {
		if d.Installed() == nil {
			return d, nil
		}
	}
	return all[0], nil // its start says what to install
}

// reachable tells whether the hypervisor is there that somebody has chosen, or
// the cloud may be asked, before anything is made for it. EC2 is asked to tell
// what would be done, too.
func (a *app) reachable(platform string, dryRun bool) error {
	switch platform {
	case qemu.Name: // whose start says it
		return nil
	case ec2.Name, gce.Name:
		if a.settings.Offline && !(dryRun && platform == gce.Name) {
			return errOffline("running on " + platform)
		}
		return nil
	}
	for _, d := range locals(a.settings) {
		if d.Name() == platform {
			return d.Installed()
		}
	}
	return nil
}

// clean ends what an instance's platform still runs of it although its
// supervisor is gone.
func (a *app) clean(ctx context.Context, i *instance.Instance) error {
	d, err := driverOf(a.settings, i.Config.Platform)
	if err != nil {
		return nil // a platform that this version does not know has nothing of it
	}
	if c, ok := d.(hypervisor.Cleaner); ok {
		return c.Clean(ctx, i.Dir)
	}
	return nil
}

// refuse is why an instance's platform cannot run it.
func (a *app) refuse(cfg instance.Config) error {
	p, err := platformOf(a.settings, cfg.Platform)
	if err != nil {
		return err
	}
	if err := refuseGroup(p, cfg.Replicas); err != nil {
		return err
	}
	if cfg.Restart.Policy != "" && p.Capabilities().Away {
		return &hypervisor.CannotError{Platform: p.Name(), What: "start an instance again when it has ended: nobody watches over it", Remedy: "leave --restart out"}
	}
	return hypervisor.Refuse(p, &cfg.Machine)
}
