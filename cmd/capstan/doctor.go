package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"capstan/guest"
	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/qemu"
	"capstan/internal/hypervisor/vbox"
	"capstan/internal/hypervisor/vmware"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

func newDoctor(a *app) *cobra.Command {
	var deep bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this host and the store, and say how to mend what is wrong",
		Long: "Check this host and the store, and say how to mend what is wrong.\n\n" +
			"VirtualBox and VMware are looked at where they are installed; vSphere, EC2 and\n" +
			"Compute Engine are asked, for ten seconds at most, where this host has credentials\n" +
			"for them or config.yaml has their section.",
		Example: "  capstan doctor\n  capstan doctor --deep --format json",
		Args:    none,
	}
	format := formatFlag(cmd)
	cmd.Flags().BoolVar(&deep, "deep", false, "read the whole store and verify every digest")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		rows := []finding{a.checkQEMU(ctx), checkAccel()}
		rows = append(rows, a.checkVirtualBox(ctx)...)
		rows = append(rows, a.checkVMware(ctx)...)
		rows = append(rows, a.checkRemotes(ctx)...)
		rows = append(rows, a.checkGuest(), a.checkSpace())
		rows = append(rows, a.checkStore(cmd, deep)...)
		rows = append(rows, a.checkInstances(), a.checkNames())
		if err := printFindings(cmd, *format, rows); err != nil {
			return err
		}
		for _, f := range rows {
			if !f.OK {
				return statusError(exitError)
			}
		}
		return nil
	}
	return cmd
}

// printFindings writes each remedy on a line of its own, below what it is for:
// beside it, no terminal is wide enough.
func printFindings(cmd *cobra.Command, format string, rows []finding) error {
	t := table[[]string]{cells: func(cells []string) []string { return cells }}
	if format != "table" {
		return table[finding]{}.print(cmd, format, rows)
	}
	var lines [][]string
	for _, f := range rows {
		mark := "ok"
		if !f.OK {
			mark = "WRONG"
		}
		lines = append(lines, []string{mark, f.Check, f.Detail})
		if f.Remedy != "" {
			lines = append(lines, []string{"", "", "try: " + f.Remedy})
		}
	}
	return t.align(cmd.OutOrStdout(), lines)
}

func wrong(check string, err error) finding {
	remedy := hintFor(err)
	if remedy == "" && errors.Is(err, fs.ErrPermission) {
		remedy = rootHint + "; or have the owner of this one give it to this user"
	}
	return finding{Check: check, Detail: message(err), Remedy: remedy}
}

func (a *app) checkQEMU(ctx context.Context) finding {
	d := qemu.New(qemu.Options{Path: a.settings.QEMU})
	if err := d.Check(ctx); err != nil {
		return wrong("qemu", err)
	}
	path, version, err := d.Version(ctx)
	if err != nil {
		return wrong("qemu", err)
	}
	return finding{Check: "qemu", OK: true, Detail: path + " " + version}
}

// checkVirtualBox looks at VirtualBox where there is one: nobody needs it.
func (a *app) checkVirtualBox(ctx context.Context) []finding {
	d := vbox.New(vbox.Options{Path: a.settings.VBox})
	if d.Installed() != nil && a.settings.On != vbox.Name && a.settings.VBox == "" {
		return nil
	}
	path, version, err := d.Version(ctx)
	if err != nil {
		return []finding{wrong("virtualbox", err)}
	}
	return []finding{{Check: "virtualbox", OK: true, Detail: path + " " + version}}
}

// probeBound bounds the questions to each platform that is elsewhere, and to
// VMware's program.
const probeBound = 10 * time.Second

// checkVMware looks at VMware Workstation or Fusion where there is one.
func (a *app) checkVMware(ctx context.Context) []finding {
	d := vmware.New(vmware.Options{Path: a.settings.VMRun})
	if d.Installed() != nil && a.settings.On != vmware.Name && a.settings.VMRun == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	path, err := d.Program()
	if err == nil {
		err = d.Check(ctx)
	}
	if err != nil {
		return []finding{wrong(vmware.Name, err)}
	}
	return []finding{{Check: vmware.Name, OK: true, Detail: path}}
}

// checkRemotes asks the platforms that are elsewhere, all at once: those that
// this host has credentials for, or that config.yaml has a section of. Others
// nobody here uses.
func (a *app) checkRemotes(ctx context.Context) []finding {
	var all []*finding
	var asking sync.WaitGroup
	for _, r := range a.remotes() {
		p, ok := r.(hypervisor.Prober)
		wanted := a.settings.On == r.Name() || a.settings.Sections[r.Name()]
		if !ok || !wanted && !p.Configured() {
			continue
		}
		if a.settings.Offline {
			all = append(all, &finding{Check: r.Name(), OK: true, Detail: "configured; not asked, as this is offline"})
			continue
		}
		f := &finding{}
		all = append(all, f)
		asking.Go(func() { *f = probe(ctx, p, wanted) })
	}
	asking.Wait()
	var rows []finding
	for _, f := range all {
		if f.Check != "" {
			rows = append(rows, *f)
		}
	}
	return rows
}

// probe asks a platform. There is nothing to tell of one that has a
// configuration, as other tools make one, but no credentials, unless it is
// wanted.
func probe(ctx context.Context, p hypervisor.Prober, wanted bool) finding {
	bound, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	who, err := p.Probe(bound)
	switch {
	case err == nil:
		return finding{Check: p.Name(), OK: true, Detail: who}
	case errors.Is(err, hypervisor.ErrNoCredentials) && !wanted:
		return finding{}
	case bound.Err() != nil && ctx.Err() == nil:
		err = &hinted{fmt.Errorf("%s does not answer within %v", p.Name(), probeBound), "look whether this host reaches it"}
	}
	return wrong(p.Name(), err)
}

// checkAccel is never wrong: machines run without acceleration, if slowly.
func checkAccel() finding {
	name, why := qemu.ProbeAccel()
	f := finding{Check: "accelerator", OK: true, Detail: name}
	if why != "" {
		f.Detail += ": " + why
		f.Remedy = "switch virtualization on in the firmware, or use a host that has it"
	}
	return f
}

func (a *app) checkGuest() finding {
	files, err := guest.Locate(a.settings.Root)
	if err != nil {
		return wrong("guest", err)
	}
	return finding{Check: "guest", OK: true, Detail: "Linux " + files.Info.Kernel}
}

func (a *app) checkSpace() finding {
	const least = 1 << 30
	dir := a.settings.Root
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return wrong("disk space", err)
	}
	free, err := freeSpace(dir)
	if err != nil {
		return wrong("disk space", err)
	}
	f := finding{Check: "disk space", OK: free >= least, Detail: size(free) + " free in " + dir}
	if !f.OK {
		f.Remedy = "capstan prune --all, or another CAPSTAN_ROOT"
	}
	return f
}

func (a *app) checkStore(cmd *cobra.Command, deep bool) []finding {
	ctx := cmd.Context()
	if deep {
		defer a.working(cmd, "verifying the store")()
	}
	store, err := a.store()
	if err != nil {
		return []finding{wrong("store", err)}
	}
	var out []finding
	for _, p := range store.Check(ctx, deep) {
		out = append(out, finding{Check: "store", Detail: p.Text, Remedy: p.Hint})
	}
	if len(out) == 0 {
		names, err := store.Names(ctx)
		if err != nil {
			return []finding{wrong("store", err)}
		}
		out = append(out, finding{Check: "store", OK: true, Detail: fmt.Sprintf("images: %d", len(names))})
	}
	return out
}

func (a *app) checkInstances() finding {
	list, err := a.instances().List()
	if err != nil {
		return wrong("instances", err)
	}
	running := 0
	for _, i := range list {
		if i.State.Live() {
			running++
		}
	}
	return finding{Check: "instances", OK: true, Detail: fmt.Sprintf("instances: %d, running: %d", len(list), running)}
}

// checkNames looks at what short names stand for; config.yaml was read already.
func (a *app) checkNames() finding {
	sources, err := a.sources()
	if err != nil {
		return wrong("names", err)
	}
	return finding{Check: "names", OK: true, Detail: fmt.Sprintf("aliases: %d, registry of short names: %s",
		len(sources.Aliases.List()), firstOf(sources.Registries.Default(), "none"))}
}
