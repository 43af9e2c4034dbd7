package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/capstanfile"
	"capstan/internal/image/opaque"
	"capstan/internal/image/osv"
	"capstan/internal/image/rofs"
	"capstan/internal/image/source"
	"capstan/internal/repo"
)

// defaultLoader is the loader that images of OSv stand on.
const defaultLoader = "osv-loader"

// composeFlags are the letters of old Capstan's that compose and package
// compose have alike.
type composeFlags struct {
	loader, size, fs string
	verbose          bool
}

func (f *composeFlags) add(a *app, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.loader, "loader_image", "l", defaultLoader, "`IMAGE` with OSv's kernel; of its files none is taken")
	fl.StringVarP(&f.size, "size", "s", "", "make a disk of `SIZE` at least (default: what the files need)")
	fl.StringVar(&f.fs, "fs", "rofs", "file system: rofs, which is read-only")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "list what goes into the image")
	takesOneOf(cmd, "fs", "rofs")
	cmd.RegisterFlagCompletionFunc("loader_image", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.imageNames(cmd), cobra.ShellCompDirectiveNoFileComp
	})
}

// check looks for mistakes in the flags, and returns the size.
func (f *composeFlags) check(cmd *cobra.Command) (int64, error) {
	switch f.fs {
	case "rofs":
	case "zfs":
		return 0, usage(cmd, &hinted{errors.New("--fs zfs: only OSv itself can write its ZFS, in a machine of its own, and Capstan boots nothing to make an image"),
			"--fs rofs, which is read-only, for what keeps no data; or an image of Linux, with capstan build"})
	default:
		return 0, usage(cmd, &hinted{fmt.Errorf("--fs %s: there is no such file system", f.fs), "--fs rofs"})
	}
	if f.size == "" {
		return 0, nil
	}
	bytes, err := capstanfile.ParseMemory(f.size)
	if err != nil {
		return 0, usage(cmd, &hinted{fmt.Errorf("-s %s: expected a size with its unit", f.size), "such as -s 1G"})
	}
	return bytes, nil
}

func newCompose(a *app) *cobra.Command {
	var f composeFlags
	var line string
	cmd := &cobra.Command{
		Use:   "compose [flags] NAME PATH",
		Short: "Make an image of OSv with the files of a directory",
		Long: "Make a disk image that boots OSv, with the file PATH, or all that the directory PATH\n" +
			"holds, in its root. The kernel is the loader's, an image such as OSv's releases have\n" +
			"it: osv-loader. Nothing is booted. The file system is OSv's read-only one, ROFS, which\n" +
			"OSv has from version 0.51 on.\n\n" +
			"For applications on Linux there is capstan build.",
		Example: "  capstan compose -c '/hello.so --name Johnny' hello ./hello.so\n" +
			"  capstan compose -l team/osv-loader -c /app.so team/app ./tree",
		Args:              exactly(2, "a name, and a file or directory"),
		ValidArgsFunction: a.completeImport,
	}
	f.add(a, cmd)
	cmd.Flags().StringVarP(&line, "command_line", "c", "", "`LINE` that OSv boots with (default: the loader's)")
	cmd.RunE = interruptible(func(cmd *cobra.Command, args []string) error {
		size, err := f.check(cmd)
		if err != nil {
			return err
		}
		name, err := repo.ParseName(args[0])
		if err != nil {
			return err
		}
		files, err := a.filesAt(cmd, args[1])
		if err != nil {
			return err
		}
		plan := func(ctx context.Context) (*rofs.Tree, error) { return rofs.Plan(ctx, files) }
		return a.composeOSv(cmd, f, composed{
			name: name, size: size, plan: plan, notes: opaque.Options{Build: "capstan compose"},
			line: func(old string) string { return firstOf(line, old) },
		})
	})
	return cmd
}

// filesAt is what a directory holds, or a file.
func (a *app) filesAt(cmd *cobra.Command, path string) (rofs.Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return rofs.Source{}, &hinted{fmt.Errorf("there is no file or directory %s", path), "the path of one"}
	}
	if !info.IsDir() {
		return rofs.HostFile(path, filepath.Base(path)), nil
	}
	layer, err := source.FromDirectory(cmd.Context(), path, source.Options{Notes: a.notes(cmd)})
	if err != nil {
		return rofs.Source{}, err
	}
	return rofs.Tar(path, layer.WriteTar), nil
}

// composed is an image of OSv that is to be made.
type composed struct {
	name  repo.Name
	size  int64
	plan  func(context.Context) (*rofs.Tree, error)
	line  func(old string) string // given the loader's
	notes opaque.Options
}

// composeOSv makes an image upon a loader.
func (a *app) composeOSv(cmd *cobra.Command, f composeFlags, c composed) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	base, done, err := a.loader(cmd, store, f.loader)
	if err != nil {
		return err
	}
	defer done()
	tree, err := c.plan(cmd.Context())
	if err != nil {
		return err
	}
	if f.verbose {
		listTree(cmd, tree)
	}
	img := osv.Image{Base: base, Root: tree, Line: c.line(base.Line), Size: c.size, Notes: c.notes}
	stored := a.working(cmd, "writing "+c.name.Repository())
	entry, config, err := img.Store(cmd.Context(), store, c.name)
	stored()
	if err != nil {
		return err
	}
	note(cmd, "composed %s (%s), which boots with %q", entry.Name, describeDisk(config), brief(img.Line, 200))
	fmt.Fprintln(cmd.OutOrStdout(), entry.Digest)
	return nil
}

func arrow(target string) string {
	if target == "" {
		return ""
	}
	return " -> " + target
}

// loader opens the disk of an image with OSv's kernel; done gives back what
// that took. Registries do not have the usual one: whoever has a name like it
// there is not asked.
func (a *app) loader(cmd *cobra.Command, store *repo.Store, ref string) (base *osv.Base, done func(), err error) {
	pull := pullFlags{policy: pullMissing}
	if ref == defaultLoader {
		pull.policy = pullNever
	}
	found, err := a.obtain(cmd, store, ref, pull)
	if err != nil {
		return nil, nil, err
	}
	base, done, err = a.openOSv(cmd.Context(), store, found)
	if errors.Is(err, repo.ErrNotFound) && ref == defaultLoader {
		return nil, nil, &hinted{fmt.Errorf("there is no image %s, which OSv's kernel is taken from", ref),
			"fetch osv-loader.qemu.x86_64 of https://github.com/cloudius-systems/osv/releases, and capstan import osv-loader FILE"}
	}
	if err == nil {
		if err = base.CanTakeFiles(); err != nil {
			done()
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", strings.TrimSuffix(ref, ":"+repo.DefaultTag), err)
	}
	return base, done, nil
}

// openOSv opens an image of the store that has a disk of OSv's.
func (a *app) openOSv(ctx context.Context, store *repo.Store, ref string) (*osv.Base, func(), error) {
	img, entry, err := store.Image(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	if entry.Disk == "" {
		return nil, nil, &hinted{errors.New("it is an image of Linux, and no disk of OSv's"), "capstan build, with it as base in a Capstanfile"}
	}
	d, file, err := opaque.Open(ctx, store, img, entry.Digest)
	if err != nil {
		return nil, nil, err
	}
	base, err := osv.Examine(d)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return base, func() { file.Close() }, nil
}
