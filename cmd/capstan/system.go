package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
	"capstan/internal/image"
	"capstan/internal/image/disk"
	"capstan/internal/image/opaque"
	"capstan/internal/instance"
	"capstan/internal/repo"
)

// systemMemory is what a disk image gets at least where nobody says it: what
// old Capstan gave.
const systemMemory = 1 << 30

// systemFlags are run's flags for disk images only, and what does the same for
// other images.
var systemFlags = map[string]string{
	"execute":  "the command follows the image: capstan run IMAGE COMMAND ARG...",
	"firmware": "leave it out: capstan brings the kernel",
	"bus":      "leave it out: capstan attaches the root",
}

// forSystems is a flag that is given and is for disk images only, or "".
func (f *runFlags) forSystems() string {
	for _, flag := range []struct{ name, value string }{{"execute", f.execute}, {"firmware", f.firmware}, {"bus", f.bus}} {
		if flag.value != "" {
			return flag.name
		}
	}
	return ""
}

// forGuests is what is given and makes sense only where Capstan's own guest
// runs, or "". Variables are for OSv too.
func (f *runFlags) forGuests(osv bool, args []string) string {
	for _, given := range []struct {
		what string
		is   bool
	}{
		{"a command", len(args) > 0}, {"--entrypoint", f.entrypoint != ""}, {"-u", f.user != ""}, {"-w", f.workdir != ""},
		{"--hostname", f.hostname != ""}, {"-v", len(f.shares) > 0}, {"--read-only", f.readOnly}, {"--verbose", f.verbose},
		{"-e", len(f.env) > 0 && !osv}, {"--env-file", len(f.envFiles) > 0 && !osv}, {"--execute", f.execute != "" && !osv},
	} {
		if given.is {
			return given.what
		}
	}
	return ""
}

// createSystem makes an instance of a disk image, without starting it.
func (a *app) createSystem(cmd *cobra.Command, f *runFlags, store *repo.Store, img v1.Image, entry repo.Entry, ref string, args []string) (*instance.Instance, error) {
	config, _, err := opaque.Read(img)
	if err != nil {
		return nil, err
	}
	cfg, err := a.configureSystem(cmd, f, config, ref, args)
	if err != nil {
		return nil, err
	}
	edit, err := editLine(f, config)
	if err != nil {
		return nil, usage(cmd, err)
	}
	cfg.Digest, cfg.Created = entry.Digest.String(), time.Now()
	return a.instances().Create(cfg, func(dir string) error {
		return opaque.Prepare(cmd.Context(), store, img, entry.Digest, dir, edit)
	})
}

func (a *app) configureSystem(cmd *cobra.Command, f *runFlags, config opaque.Config, ref string, args []string) (instance.Config, error) {
	bad := func(err error) (instance.Config, error) { return instance.Config{}, usage(cmd, err) }
	cfg, err := a.configureAny(cmd, f, ref)
	if err != nil {
		return cfg, err
	}
	if what := f.forGuests(config.OSv, args); what != "" {
		hint := "leave it out"
		if config.OSv {
			hint = "--execute sets the command line of this OSv image, and -e NAME=VALUE a variable in it"
		}
		return bad(&hinted{fmt.Errorf("%s is a disk image, whose own system runs as it is: %s has no meaning for it", ref, what), hint})
	}
	if f.firmware != "" && !slices.Contains(opaque.Firmwares(), f.firmware) {
		return bad(&hinted{fmt.Errorf("--firmware %s: there is no such firmware", f.firmware), strings.Join(opaque.Firmwares(), " or ")})
	}
	if f.bus != "" && !slices.Contains(opaque.Buses(), f.bus) {
		return bad(&hinted{fmt.Errorf("--bus %s: there is no such bus", f.bus), strings.Join(opaque.Buses(), ", ")})
	}
	firmware, bus := hypervisor.Firmware(firstOf(f.firmware, config.Firmware)), hypervisor.Bus(firstOf(f.bus, config.Bus))
	if firmware == hypervisor.UEFI && bus == hypervisor.IDE {
		return bad(&hinted{errors.New("a machine with UEFI firmware has no IDE"), "--bus sata or --bus virtio"})
	}
	m := &cfg.Machine
	m.Memory = max(a.settings.Memory, systemMemory)
	if f.memory != "" {
		if m.Memory, err = a.memory(f, image.Config{}); err != nil {
			return bad(err)
		}
	}
	m.CPUs = firstOf(f.cpus, a.settings.CPUs)
	m.Guest = api.Config{Version: api.Version, TTY: f.tty, Stdin: f.stdin, StopTimeout: f.stopTimeout, Network: m.Guest.Network}
	m.System = &hypervisor.System{
		Disk: opaque.OverlayFile, Base: opaque.BaseFile, Format: config.Format,
		Firmware: firmware, Bus: bus,
	}
	if err := a.refuse(cfg); err != nil {
		return bad(err)
	}
	return cfg, nil
}

// checkSystem looks whether the disks of an instance of a disk image are there.
func checkSystem(inst *instance.Instance) error {
	for _, file := range []string{opaque.BaseFile, opaque.OverlayFile} {
		if _, err := os.Stat(filepath.Join(inst.Dir, file)); err != nil {
			return &hinted{fmt.Errorf("the disk %s of %s is missing", file, inst.Config.Name), "capstan rm " + inst.Config.Name + "; then run it again"}
		}
	}
	return nil
}

// editLine returns what changes an OSv disk's command line as the flags say,
// or nil where they say nothing. Variables go before what is there.
func editLine(f *runFlags, config opaque.Config) (func(head []byte) error, error) {
	env, err := environment(f.env, f.envFiles)
	if err != nil {
		return nil, err
	}
	if f.execute == "" && len(env) == 0 {
		return nil, nil
	}
	options := ""
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		options += disk.OSvEnv(name, value) + " "
	}
	change := func(head []byte) error {
		return disk.SetOSvLine(head, options+firstOf(f.execute, disk.OSvLine(head)))
	}
	// What is too long is wrong use: better said before anything is made.
	trial := make([]byte, disk.OSvHead)
	if err := disk.SetOSvLine(trial, config.Cmdline); err != nil {
		return nil, err
	}
	if err := change(trial); err != nil {
		return nil, &hinted{err, "a shorter one"}
	}
	return change, nil
}
