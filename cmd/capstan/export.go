package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/guest"
	"capstan/internal/capstanfile"
	"capstan/internal/image"
	"capstan/internal/image/disk"
	"capstan/internal/image/disk/compose"
	"capstan/internal/image/disk/qcow2"
	"capstan/internal/repo"
)

// exportFlags are what the command export is told.
type exportFlags struct {
	format, output, size string
	force                bool
	pull                 pullFlags
}

// exportFormats are those that are written.
var exportFormats = []string{string(disk.Raw), string(disk.QCOW2)}

func newExport(a *app) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export [flags] IMAGE -o FILE",
		Short: "Write an image as a disk that boots by UEFI",
		Long: "Write an image as a disk for other hypervisors. It boots by itself on a machine with\n" +
			"UEFI firmware, without Secure Boot; it gets its address by DHCP, runs the image's\n" +
			"command, whose output is on the first serial port, and keeps what that writes. The\n" +
			"file takes as much room as its content, whatever the size of the disk is.\n" +
			"The machine needs a source of random numbers: a CPU with RDRAND, or virtio-rng.\n" +
			"An image that the local store does not have is pulled.",
		Example: "  capstan export redis -o redis.raw\n" +
			"  capstan export --format qcow2 --disk 20G -o redis.qcow2 redis",
		Args:              exactly(1, "an image"),
		ValidArgsFunction: first(a.completePull),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.export(cmd, f, args[0]) },
	}
	cmd.Flags().StringVar(&f.format, "format", string(disk.Raw), strings.Join(exportFormats, " or "))
	takesOneOf(cmd, "format", exportFormats...)
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "write to `FILE`")
	takesFiles(cmd, "output")
	cmd.Flags().StringVar(&f.size, "disk", "", "make a disk of `SIZE` (default: what the image needs, and "+size(compose.Spare)+")")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace FILE if it exists")
	f.pull.add(cmd, "the image")
	return cmd
}

// check looks for mistakes before anything is done, and returns --disk.
func (f *exportFlags) check(cmd *cobra.Command) (int64, error) {
	if !slices.Contains(exportFormats, f.format) {
		return 0, usage(cmd, fmt.Errorf("--format %s: expected %s", f.format, strings.Join(exportFormats, " or ")))
	}
	if f.output == "" {
		return 0, usage(cmd, &hinted{errors.New("capstan export needs a file to write to"), "-o FILE"})
	}
	var bytes int64
	if f.size != "" {
		var err error
		if bytes, err = capstanfile.ParseMemory(f.size); err != nil {
			return 0, usage(cmd, &hinted{fmt.Errorf("--disk %s: expected a size with its unit", f.size), "such as --disk 20G"})
		}
	}
	info, err := os.Stat(f.output)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err = os.Stat(filepath.Dir(f.output)) // before an image is pulled for nothing
		return bytes, err
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular():
		return 0, &hinted{fmt.Errorf("%s is there, and no regular file", f.output), "the name of a file"}
	case !f.force:
		return 0, &hinted{fmt.Errorf("%s exists", f.output), "another name, or --force to replace it"}
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
	store, err := a.store()
	if err != nil {
		return err
	}
	found, err := a.obtain(cmd, store, ref, f.pull)
	if err != nil {
		return err
	}
	img, entry, err := store.Image(ctx, found)
	if err != nil {
		return err
	}
	d, err := a.bootDisk(img, entry, ref)
	if err != nil {
		return err
	}
	d.Size = nominal
	progress := newProgress(cmd, false)
	defer progress.close()
	root, err := image.OpenRoot(ctx, store, image.Watched(img, progress), entry.Digest)
	if err != nil {
		return err
	}
	defer root.Close()
	l, err := place(&d, root)
	if err != nil {
		return err
	}
	d.Written = func(done int64) { progress.Update("writing", done, d.RootSize) }
	d.Written(0)
	if err := replaceFile(f.output, func(w *os.File) error { return writeDisk(ctx, w, f.format, &d, l) }); err != nil {
		return full(f.output, err)
	}
	note(cmd, "exported %s to %s, a disk of %s", ref, f.output, size(l.Size))
	return nil
}

// bootDisk is what an image's disk holds, but for the root.
func (a *app) bootDisk(img v1.Image, entry repo.Entry, ref string) (compose.Disk, error) {
	if entry.Disk != "" {
		return compose.Disk{}, &hinted{fmt.Errorf("%s is a disk image already, with a system of its own", ref), "capstan save --format oci writes it to an archive"}
	}
	said, err := image.ReadConfig(img)
	if err != nil {
		return compose.Disk{}, err
	}
	if said.Arch != "" && said.Arch != guestArch {
		return compose.Disk{}, fmt.Errorf("%s is an image for %s, and the guest is for %s", ref, said.Arch, guestArch)
	}
	cfg, err := guestConfig(&runFlags{}, said, nil)
	if err != nil {
		return compose.Disk{}, err
	}
	if len(cfg.Args) == 0 {
		return compose.Disk{}, &hinted{fmt.Errorf("%s says no command", ref), "an image whose Capstanfile has a cmdline, with this one as its base"}
	}
	cfg.Root = compose.Root()
	doc, err := json.Marshal(cfg)
	if err != nil {
		return compose.Disk{}, err
	}
	files, err := guest.Locate(a.settings.Root)
	if err != nil {
		return compose.Disk{}, err
	}
	kernel, err := os.ReadFile(files.Kernel)
	if err != nil {
		return compose.Disk{}, fmt.Errorf("reading the guest: %w", err)
	}
	return compose.Disk{Kernel: kernel, Config: doc, Seed: entry.Digest.String()}, nil
}

// place puts the root on the disk.
func place(d *compose.Disk, root *os.File) (compose.Layout, error) {
	info, err := root.Stat()
	if err != nil {
		return compose.Layout{}, err
	}
	d.Root, d.RootSize = root, info.Size()
	l, err := d.Layout()
	var small *compose.SmallError
	if errors.As(err, &small) {
		return l, &hinted{err, fmt.Sprintf("--disk %dM or more", small.Needed>>20)}
	}
	return l, err
}

// writeDisk writes a disk in a format.
func writeDisk(ctx context.Context, file *os.File, format string, d *compose.Disk, l compose.Layout) error {
	if format == string(disk.Raw) {
		if err := file.Truncate(l.Size); err != nil {
			return err
		}
		return d.Write(ctx, file, l)
	}
	w, err := qcow2.NewWriter(file, l.Size)
	if err != nil {
		return err
	}
	if err := d.Write(ctx, w, l); err != nil {
		return err
	}
	return w.Close()
}

// full is the error of writing a file, in a sentence where there is no room
// for it.
func full(path string, err error) error {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, cause) {
			return &hinted{fmt.Errorf("writing %s: %w", path, cause), "make room there, or name a file in another folder"}
		}
	}
	return err
}
