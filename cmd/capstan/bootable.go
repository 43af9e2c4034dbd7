package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/guest"
	"capstan/guest/api"
	"capstan/internal/hypervisor"
	"capstan/internal/image"
	"capstan/internal/image/disk/compose"
	"capstan/internal/image/disk/export"
	"capstan/internal/repo"
)

// bootable is an image as a disk that boots by itself, ready to be written.
type bootable struct {
	compose.Disk
	layout compose.Layout
	entry  repo.Entry
	root   *os.File
}

// id is the same for disks of the same bytes, and for no others.
func (b *bootable) id() string {
	id := b.ID(b.layout)
	return hex.EncodeToString(id[:])
}

// named is the disk for a file of that name.
func (b *bootable) named(name string) export.Disk {
	return export.Disk{Size: b.layout.Size, Name: name, ID: b.ID(b.layout), Content: func(ctx context.Context, w io.WriterAt) error {
		return b.Write(ctx, w, b.layout)
	}}
}

// again is the disk for one more that writes it.
func (b *bootable) again() hypervisor.BootDisk {
	return hypervisor.BootDisk{ID: b.id(), Size: b.layout.Size, Write: func(ctx context.Context, w io.WriterAt) error {
		d := b.Disk
		d.Root = io.NewSectionReader(b.root, 0, d.RootSize)
		return d.Write(ctx, w, b.layout)
	}}
}

// fetch finds an image, and pulls it where the flags and the store's content
// ask for that.
func (a *app) fetch(ctx context.Context, cmd *cobra.Command, ref string, pull pullFlags) (*repo.Store, v1.Image, repo.Entry, error) {
	store, err := a.store()
	if err != nil {
		return nil, nil, repo.Entry{}, err
	}
	found, err := a.obtain(cmd, store, ref, pull)
	if err != nil {
		return nil, nil, repo.Entry{}, err
	}
	img, entry, err := store.Image(ctx, found)
	return store, img, entry, err
}

// pushable finds or pulls an image, and makes the disk of it that a cloud gets:
// of the size of one, whose writing progress is told of. Its root is the
// caller's to close.
func (a *app) pushable(ctx context.Context, cmd *cobra.Command, ref string, of compose.Disk, progress *progress) (*bootable, error) {
	store, img, entry, err := a.fetch(ctx, cmd, ref, pullFlags{policy: pullMissing})
	if err != nil {
		return nil, err
	}
	if entry.Disk != "" {
		return nil, &hinted{fmt.Errorf("%s is a disk image already, with a system of its own", ref), "an image of Capstan's own or of a container"}
	}
	b, err := a.bootable(ctx, store, img, entry, ref, of, progress)
	if err == nil {
		b.Written = func(done int64) { progress.Update("sending", done, b.RootSize) }
	}
	return b, err
}

// bootable makes the disk of an image that has the size of one. Its root is the
// caller's to close.
func (a *app) bootable(ctx context.Context, store *repo.Store, img v1.Image, entry repo.Entry, ref string, of compose.Disk, progress *progress) (*bootable, error) {
	d, err := a.bootDisk(img, entry, ref)
	if err != nil {
		return nil, err
	}
	d.Size, d.Unit = of.Size, of.Unit
	root, err := image.OpenRoot(ctx, store, image.Watched(img, progress), entry.Digest)
	if err != nil {
		return nil, err
	}
	b, err := placed(d, root)
	if err != nil {
		root.Close()
		return nil, err
	}
	b.entry = entry
	return b, nil
}

// imageAway is the disk of an image, as capstan push makes it.
func (a *app) imageAway(img v1.Image, entry repo.Entry, ref string, root *os.File, unit int64) (hypervisor.BootDisk, error) {
	d, err := a.bootDisk(img, entry, ref)
	if err != nil {
		return hypervisor.BootDisk{}, err
	}
	d.Unit = unit
	b, err := placed(d, root)
	if err != nil {
		return hypervisor.BootDisk{}, err
	}
	return b.again(), nil
}

// diskAway is a disk with a guest's config and a root.
func (a *app) diskAway(cfg api.Config, seed string, root *os.File) (hypervisor.BootDisk, error) {
	d, err := a.guestDisk(cfg, seed)
	if err != nil {
		return hypervisor.BootDisk{}, err
	}
	b, err := placed(d, root)
	if err != nil {
		return hypervisor.BootDisk{}, err
	}
	return b.again(), nil
}

// bootDisk is what an image's disk holds, but for the root.
func (a *app) bootDisk(img v1.Image, entry repo.Entry, ref string) (compose.Disk, error) {
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
	cfg.Image = api.Image{Name: entry.Name.String(), Digest: entry.Digest.String(), Memory: said.Memory, CPUs: said.CPUs, Ports: said.Exposed}
	return a.guestDisk(cfg, entry.Digest.String())
}

// guestDisk is a disk with the guest and an instance's config, but for the root.
func (a *app) guestDisk(cfg api.Config, seed string) (compose.Disk, error) {
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
	return compose.Disk{Kernel: kernel, Config: doc, Seed: seed}, nil
}

// placed puts a root on a disk.
func placed(d compose.Disk, root *os.File) (*bootable, error) {
	info, err := root.Stat()
	if err != nil {
		return nil, err
	}
	d.Root, d.RootSize = root, info.Size()
	l, err := d.Layout()
	var small *compose.SmallError
	if errors.As(err, &small) {
		err = &hinted{err, fmt.Sprintf("--disk %dM or more", small.Needed>>20)}
	}
	return &bootable{Disk: d, layout: l, root: root}, err
}
