package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/image/disk"
	"capstan/internal/image/opaque"
	"capstan/internal/repo"
)

func newInfo(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "info FILE|IMAGE...",
		Short:             "Say in a line what a disk or an image is",
		Example:           "  capstan info ./legacy.qcow2\n  capstan info redis",
		Args:              atLeast(1, "a file or an image"),
		ValidArgsFunction: a.completeRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(args, func(name string) error {
				line, err := a.info(cmd.Context(), name)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", name, line)
				return nil
			})
		},
	}
}

// info describes a file, else an image of the store.
func (a *app) info(ctx context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err == nil {
		defer f.Close()
		return fileInfo(f)
	}
	if isPath(name) || !errors.Is(err, fs.ErrNotExist) {
		return "", &hinted{err, "the path of a disk, or the name of an image"}
	}
	store, err := a.store()
	if err != nil {
		return "", err
	}
	ref, err := a.stored(ctx, store, name)
	if err != nil {
		return "", err
	}
	img, entry, err := store.Image(ctx, ref)
	var odd *repo.NameError
	if errors.Is(err, repo.ErrNotFound) || errors.As(err, &odd) {
		return "", &hinted{fmt.Errorf("%s: no such file or image", name), "capstan images lists the images"}
	}
	if err != nil {
		return "", err
	}
	if entry.Disk == "" {
		return fmt.Sprintf("image for %s/%s, %s", entry.OS, entry.Architecture, size(entry.Size)), nil
	}
	config, _, err := opaque.Read(img)
	if err != nil {
		return "", err
	}
	line := describeDisk(config)
	if config.OSv {
		line += fmt.Sprintf(", command line %q", config.Cmdline)
	}
	return line, nil
}

// fileInfo describes a disk; what is none, or is refused, is said in a word as
// old Capstan did.
func fileInfo(f *os.File) (string, error) {
	stat, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !stat.Mode().IsRegular() {
		return "not a runnable image", nil
	}
	d, err := disk.Open(f, stat.Size())
	var refused *disk.Error
	if errors.As(err, &refused) {
		return fmt.Sprintf("not a runnable image: %s", refused.Reason), nil
	}
	if err != nil {
		return "", err
	}
	boot, err := d.ReadBoot()
	if errors.As(err, &refused) || err == nil && boot.Firmware() == "" {
		return "not a runnable image", nil
	}
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("%s, disk of %s, boots by %s", strings.ToUpper(string(d.Format)), size(d.Size), strings.ToUpper(boot.Firmware()))
	if boot.OSv {
		line += ", OSv"
	}
	return line, nil
}
