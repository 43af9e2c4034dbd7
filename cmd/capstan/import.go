package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/image/disk"
	"capstan/internal/image/opaque"
	"capstan/internal/repo"
	"capstan/internal/repo/legacy"
)

// importFlags are import's flags as they were given.
type importFlags struct{ version, created, description, build, firmware, bus string }

func newImport(a *app) *cobra.Command {
	var f importFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "import [flags] NAME FILE | --all [DIR]",
		Short: "Make an image of a disk that boots, to run as it is",
		Long: "Make an image of a disk that boots: qcow2, raw, VMDK, VDI or VHD, also packed by\n" +
			"gzip or zstd. What it is shows in the file; its ending says nothing. Nothing is\n" +
			"changed or looked into: capstan run boots the disk's own system. A disk that\n" +
			"depends on another file is refused.\n\n" +
			"With --all, all images of old Capstan's repository in DIR (default: the capstan\n" +
			"root) are imported, but for those that the store has.",
		Example: "  capstan import myteam/legacy ./legacy.qcow2\n" +
			"  capstan import -v 1.2 -d 'the old shop' shop disk.vmdk\n" +
			"  capstan import --firmware uefi --bus sata desktop desktop.vdi",
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return atMost(1, "one folder")(cmd, args)
			}
			return exactly(2, "a name and the file of a disk")(cmd, args)
		},
		ValidArgsFunction: a.completeImport,
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.version, "version", "v", "", "version of what is on the disk")
	fl.StringVarP(&f.created, "created", "c", "", "`time` at which it was made (default: the file's)")
	fl.StringVarP(&f.description, "description", "d", "", "what it is, in words")
	fl.StringVarP(&f.build, "build", "b", "", "command that made it")
	fl.StringVar(&f.firmware, "firmware", "", "what boots it: bios or uefi (default: bios if it has code for one)")
	fl.StringVar(&f.bus, "bus", "", "how it is attached: virtio (default), ide or sata")
	fl.BoolVar(&all, "all", false, "import what old Capstan had on this machine")
	takesOneOf(cmd, "firmware", opaque.Firmwares()...)
	takesOneOf(cmd, "bus", opaque.Buses()...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all {
			if f != (importFlags{}) {
				return usage(cmd, errors.New("--all takes what old Capstan noted of each image: the other flags are for one disk"))
			}
			return a.importAll(cmd, strings.Join(args, ""))
		}
		o, err := f.options()
		if err != nil {
			return usage(cmd, err)
		}
		name, err := repo.ParseName(args[0])
		if err != nil {
			return err
		}
		entry, config, err := a.importFile(cmd, name, args[1], o)
		if err != nil {
			return err
		}
		note(cmd, "imported %s (%s, %s)", entry.Name, describeDisk(config), size(entry.Size))
		fmt.Fprintln(cmd.OutOrStdout(), entry.Digest)
		return nil
	}
	return cmd
}

func (f *importFlags) options() (opaque.Options, error) {
	o := opaque.Options{Version: f.version, Description: f.description, Build: f.build, Firmware: f.firmware, Bus: f.bus}
	if f.firmware != "" && !slices.Contains(opaque.Firmwares(), f.firmware) {
		return o, &hinted{fmt.Errorf("--firmware %s: there is no such firmware", f.firmware), strings.Join(opaque.Firmwares(), " or ")}
	}
	if f.bus != "" && !slices.Contains(opaque.Buses(), f.bus) {
		return o, &hinted{fmt.Errorf("--bus %s: there is no such bus", f.bus), strings.Join(opaque.Buses(), ", ")}
	}
	if f.created == "" {
		return o, nil
	}
	var err error
	if o.Created, err = legacy.ParseTime(f.created); err != nil {
		return o, &hinted{fmt.Errorf("-c %q: %w", f.created, err), "leave it out: it is the file's time then"}
	}
	return o, nil
}

// importFile makes an image of a disk in a file.
func (a *app) importFile(cmd *cobra.Command, name repo.Name, path string, o opaque.Options) (repo.Entry, opaque.Config, error) {
	fail := func(err error) (repo.Entry, opaque.Config, error) { return repo.Entry{}, opaque.Config{}, err }
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fail(&hinted{fmt.Errorf("there is no file %s", path), "the path of a disk"})
	}
	if err != nil {
		return fail(&hinted{err, "the path of a disk that you can read"})
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if !info.Mode().IsRegular() {
		return fail(&hinted{fmt.Errorf("%s is no file", path), "the path of a disk; capstan build --from DIRECTORY makes an image of a directory"})
	}
	if err := refuseArchive(f, info.Size()); err != nil {
		return fail(fmt.Errorf("%s: %w", path, err))
	}
	if o.Created.IsZero() {
		o.Created = info.ModTime()
	}
	store, err := a.store()
	if err != nil {
		return fail(err)
	}
	progress := newBriefProgress(cmd)
	defer progress.close()
	entry, config, err := opaque.Import(cmd.Context(), store, name, progress.reading(f), o)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", path, err))
	}
	return entry, config, nil
}

// refuseArchive is the error of a disk in an archive, which has to come out of it.
func refuseArchive(f *os.File, bytes int64) error {
	inside, err := disk.InOVA(f, bytes)
	switch {
	case err != nil:
		return err
	case inside != nil:
		return &hinted{errors.New("it is an OVA, a machine with its disk in an archive"), "tar -xf FILE, and import its disk, which ends in .vmdk"}
	case disk.InTarGz(f, bytes) > 0:
		return &hinted{errors.New("it is an archive for Compute Engine, with a disk in it"), "tar -xf FILE, and import disk.raw"}
	}
	return nil
}

// describeDisk says in a few words what a disk is.
func describeDisk(c opaque.Config) string {
	words := []string{strings.ToUpper(string(c.Format)) + " disk of " + size(c.Size), "boots by " + strings.ToUpper(c.Firmware)}
	if c.OSv {
		words = append(words, "OSv")
	}
	return strings.Join(words, ", ")
}
