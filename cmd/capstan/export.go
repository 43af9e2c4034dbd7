package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/internal/capstanfile"
	"capstan/internal/image"
	"capstan/internal/image/disk/compose"
	"capstan/internal/image/disk/export"
	"capstan/internal/repo"
)

// exportFlags are what the command export is told.
type exportFlags struct {
	format, output, size string
	force                bool
	pull                 pullFlags
}

func newExport(a *app) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export [flags] IMAGE -o FILE",
		Short: "Write an image as a disk that boots by UEFI",
		Long: "Write an image as a disk for other hypervisors. It boots by itself on a machine with\n" +
			"UEFI firmware, without Secure Boot; it gets its address by DHCP, runs the image's\n" +
			"command, whose output is on the first serial port, and keeps what that writes. The\n" +
			"file takes as much room as its content, whatever the size of the disk is.\n\n" +
			formatHelp() + "\n" +
			"With --format xen FILE becomes a folder, with a configuration for Xen's xl, kernel,\n" +
			"ramdisk and disk.\n" +
			"An image that is a disk with a system of its own is written as it is, in any format of\n" +
			"disks.\n" +
			"An image that the local store does not have is pulled.",
		Example: "  capstan export redis -o redis.qcow2\n" +
			"  capstan export redis --disk 20G -o redis.ova\n" +
			"  capstan export redis --format vhd-fixed -o redis.vhd\n" +
			"  capstan export redis --format vmdk-stream -o - | ssh host 'cat >redis.vmdk'",
		Args:              exactly(1, "an image"),
		ValidArgsFunction: first(a.completePull),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.export(cmd, f, args[0]) },
	}
	cmd.Flags().StringVar(&f.format, "format", "", "one of these (default: the one that FILE's ending says, or raw)")
	takesOneOf(cmd, "format", exportFormats()...)
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "write to `FILE`; - is standard output")
	takesFiles(cmd, "output")
	cmd.Flags().StringVar(&f.size, "disk", "", "make a disk of `SIZE` (default: what the image needs, and "+size(compose.Spare)+")")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace FILE if it exists")
	f.pull.add(cmd, "the image")
	return cmd
}

// check looks for mistakes before anything is done, and returns --disk.
func (f *exportFlags) check(cmd *cobra.Command) (int64, error) {
	if f.output == "" {
		return 0, usage(cmd, &hinted{errors.New("capstan export needs a file to write to"), "-o FILE"})
	}
	if err := f.chooseFormat(); err != nil {
		return 0, usage(cmd, err)
	}
	bytes, err := diskSize(cmd, f.size)
	if err != nil {
		return 0, err
	}
	if most := export.Format(f.format).MaxSize(); bytes > most {
		return 0, usage(cmd, &hinted{fmt.Errorf("--disk %s: a disk in format %s has %d GiB at most", f.size, f.format, most>>30), "a smaller one, or another format"})
	}
	if f.output == stdout {
		return bytes, f.checkStdout(cmd)
	}
	info, err := os.Stat(f.output)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err = os.Stat(filepath.Dir(filepath.Clean(f.output))) // before an image is pulled for nothing
		return bytes, err
	case err != nil:
		return 0, err
	case f.format == xenFormat:
		return bytes, f.checkXen()
	case !info.Mode().IsRegular():
		return 0, &hinted{fmt.Errorf("%s is there, and no regular file", f.output), "the name of a file"}
	case !f.force:
		return 0, &hinted{fmt.Errorf("%s exists", f.output), "another name, or --force to replace it"}
	}
	return bytes, nil
}

// diskSize is --disk's value in bytes, or 0 where there is none.
func diskSize(cmd *cobra.Command, given string) (int64, error) {
	if given == "" {
		return 0, nil
	}
	bytes, err := capstanfile.ParseMemory(given)
	if err != nil {
		return 0, usage(cmd, &hinted{fmt.Errorf("--disk %s: expected a size with its unit", given), "such as --disk 20G"})
	}
	return bytes, nil
}

func (a *app) export(cmd *cobra.Command, f exportFlags, ref string) error {
	nominal, err := f.check(cmd)
	if err != nil {
		return err
	}
	// An interrupt ends the work, not the process: nothing is to be left.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	store, img, entry, err := a.fetch(ctx, cmd, ref, f.pull)
	if err != nil {
		return interrupted(ctx, err)
	}
	if entry.Disk != "" {
		return interrupted(ctx, a.exportSystem(ctx, cmd, f, nominal, store, img, entry))
	}
	var machine export.Machine
	if f.format == string(export.OVA) || f.format == xenFormat {
		if machine, err = a.machine(img, entry, f.format); err != nil {
			return err
		}
	}
	progress := newProgress(cmd, false)
	defer progress.close()
	d, err := a.bootable(ctx, store, img, entry, ref, compose.Disk{Size: nominal, Unit: export.Format(f.format).Unit()}, progress)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer d.root.Close()
	d.Written = func(done int64) { progress.Update("writing", done, d.RootSize) }
	d.Written(0)
	to := d.named(filepath.Base(f.output))
	to.Machine = machine
	if f.format == xenFormat {
		err = exportXen(ctx, f.output, &d.Disk, to)
	} else {
		err = writeDisk(ctx, f.output, export.Format(f.format), to)
	}
	if err != nil {
		return interrupted(ctx, full(f.output, err))
	}
	progress.close() // or its last bars take the place of what follows
	note(cmd, "exported %s to %s, a disk of %s", ref, f.output, size(d.layout.Size))
	return nil
}

// ovaMemory is what UEFI firmware and the guest surely come up with, in bytes.
const ovaMemory = 256 << 20

// machine is the one that the image wants to be run on.
func (a *app) machine(img v1.Image, entry repo.Entry, format string) (export.Machine, error) {
	said, err := image.ReadConfig(img)
	if err != nil {
		return export.Machine{}, err
	}
	if said.Memory == 0 {
		said.Memory = a.usualMemory(entry)
	}
	m, who := a.usual(said)
	if format == string(export.OVA) {
		m = max(m, ovaMemory)
	}
	if m < minMemory { // Xen starts the kernel without firmware
		return export.Machine{}, &hinted{tooLittle(who, m), "memory: " + size(minMemory) + " or more, in its Capstanfile or in config.yaml"}
	}
	return export.Machine{Name: firstOf(entry.Name.Name, "capstan"), Memory: m, CPUs: firstOf(said.CPUs, a.settings.CPUs)}, nil
}

// writeDisk makes a file with a disk, at once or not at all, or writes it to
// standard output.
func writeDisk(ctx context.Context, path string, format export.Format, d export.Disk) error {
	if path == stdout {
		return export.Stream(ctx, os.Stdout, format, d)
	}
	return replaceFile(path, func(f *os.File) error { return export.Write(ctx, f, format, d) })
}

// full is the error of writing a file, in a sentence, where there is no room
// for it or no right to.
func full(path string, err error) error {
	for _, known := range []struct {
		cause syscall.Errno
		hint  string
	}{
		{syscall.ENOSPC, roomHint}, {syscall.EDQUOT, roomHint}, {syscall.EFBIG, roomHint},
		{syscall.EACCES, folderHint}, {syscall.EPERM, folderHint}, {syscall.EROFS, folderHint},
	} {
		if errors.Is(err, known.cause) {
			return &hinted{fmt.Errorf("writing %s: %w", path, known.cause), known.hint}
		}
	}
	return err
}

const (
	roomHint   = "make room there, or name a file in another folder"
	folderHint = "name a file in a folder that you can write to"
)
