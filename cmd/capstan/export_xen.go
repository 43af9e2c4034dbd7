package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"capstan/internal/image/disk/compose"
	"capstan/internal/image/disk/export"
	"capstan/internal/image/disk/xen"
	"capstan/internal/image/initramfs"
)

// xenFormat is the format that is a folder.
const xenFormat = "xen"

// checkXen looks whether what is there may be replaced: only what export wrote.
func (f *exportFlags) checkXen() error {
	if !f.force {
		return &hinted{fmt.Errorf("%s exists", f.output), "another name, or --force to replace it"}
	}
	ours, err := xen.Owns(f.output)
	if err != nil || !ours {
		return &hinted{fmt.Errorf("%s is there, and no folder of capstan export --format xen", f.output), "the name of a new folder"}
	}
	return nil
}

// exportXen makes the folder of a Xen guest.
func exportXen(ctx context.Context, folder string, d *compose.Disk, to export.Disk) error {
	g := xen.Guest{Name: to.Machine.Name, Memory: to.Machine.Memory, CPUs: to.Machine.CPUs}
	return replaceFolder(folder, func(dir string) error {
		if err := g.Write(dir, d.Kernel, initramfs.Config(d.Config)); err != nil {
			return err
		}
		return writeDisk(ctx, filepath.Join(dir, xen.Disk), export.Raw, to)
	})
}

// replaceFolder makes a folder at once or not at all.
func replaceFolder(path string, write func(dir string) error) (err error) {
	path = filepath.Clean(path)
	dir, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := write(dir); err != nil {
		return err
	}
	old := dir + ".old"
	if err := os.Rename(path, old); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(dir, path)
	} else if err != nil {
		return err
	}
	if err := os.Rename(dir, path); err != nil {
		return errors.Join(err, os.Rename(old, path))
	}
	return os.RemoveAll(old)
}
