package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/internal/capstanfile"
	"capstan/internal/image"
	"capstan/internal/image/erofs"
	"capstan/internal/image/source"
	"capstan/internal/repo"
)

func newBuild(a *app) *cobra.Command {
	var from, file string
	var pull pullFlags
	cmd := &cobra.Command{
		Use:   "build [flags] [NAME] [DIR]",
		Short: "Build an image from a Capstanfile, a program, a directory or a tar",
		Long: "Build an image from the Capstanfile in DIR (default: this directory), or with\n" +
			"--from straight from a program with the libraries it needs, from a directory or\n" +
			"from a tar. NAME is the directory's, or the input's, where it is not given. A base\n" +
			"that is a disk of OSv's gives another one: cmdline is OSv's line then.\n\n" + keysHelp,
		Example:           "  capstan build\n  capstan build shop:1.2 ./shop\n  capstan build --from ./server\n  capstan build --from ./rootfs.tar app",
		Args:              atMost(2, "a name and a directory"),
		ValidArgsFunction: a.completeBuild,
	}
	cmd.Flags().StringVar(&from, "from", "", "build from this program, directory or tar instead of a Capstanfile")
	cmd.Flags().StringVarP(&file, "file", "f", "", "the Capstanfile (default: DIR/Capstanfile)")
	takesFiles(cmd, "from", "file")
	pull.add(cmd, "the Capstanfile's base")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, dir := "", "."
		if len(args) > 0 {
			name = args[0]
		}
		if len(args) == 2 {
			dir = args[1]
		}
		if from != "" {
			if len(args) == 2 || file != "" {
				return usage(cmd, errors.New("--from takes the place of DIR and of the Capstanfile"))
			}
			entry, err := a.buildFrom(cmd, from, name)
			return told(cmd, entry, err)
		}
		entry, err := a.buildFile(cmd, name, dir, file, pull)
		return told(cmd, entry, err)
	}
	return cmd
}

// keysHelp is Capstanfile.example in short.
const keysHelp = `A Capstanfile is YAML. Something must say what to run: cmdline, or a base that
brings a command. The arguments that capstan run has after the image replace
the cmdline. The keys:

  base     image to build upon                base: debian:12
  cmdline  program and arguments, or a list   cmdline: /srv/app --port "80"
  build    command for the host's shell       build: make
  rootfs   directory copied to / (ROOTFS)     rootfs: tree
  files    guest path: host path; & is the    files: {/bin/app: build/&}
           guest path's last name
  env      variables, a map or a list         env: {MODE: fast}
  workdir  where the program starts           workdir: /srv
  user     user or user:group                 user: www-data
  expose   ports that it listens on           expose: [80, 53/udp]
  volumes  directories with data to keep      volumes: [/data]
  memory   what the machine gets              memory: 128M
  cpus     how many CPUs                      cpus: 2
  labels   what others may want to know       labels: {version: "1.2"}
  arch     amd64 or arm64                     arch: amd64`

// told prints what was built: the digest to standard output.
func told(cmd *cobra.Command, entry repo.Entry, err error) error {
	if err != nil {
		return err
	}
	note(cmd, "built %s (%s)", entry.Name, size(entry.Size))
	fmt.Fprintln(cmd.OutOrStdout(), entry.Digest)
	return nil
}

// planned is a build whose inputs have been looked at.
type planned struct {
	name   repo.Name
	layer  *source.Layer
	recipe image.Recipe
	// extra is what the result depends on beside the layer.
	extra [][]byte
}

// finish builds what was planned, unless the same was built before.
func (a *app) finish(cmd *cobra.Command, store *repo.Store, p planned) (repo.Entry, error) {
	ctx := cmd.Context()
	key := p.layer.Fingerprint(append(p.extra, []byte(p.recipe.Arch), []byte(version))...)
	if entry, ok := a.builtBefore(ctx, store, key, p.name); ok {
		return entry, nil
	}
	defer a.working(cmd, "building "+p.name.Repository())()
	p.recipe.Layer = p.layer.WriteTar
	entry, err := image.Build(ctx, store, p.name, p.recipe)
	if err != nil {
		return repo.Entry{}, err
	}
	return entry, store.PutBuildRecord(ctx, key, entry.Digest)
}

// builtBefore gives the image that the same inputs gave the name, if it is there
// and not damaged.
func (a *app) builtBefore(ctx context.Context, store *repo.Store, key string, name repo.Name) (repo.Entry, bool) {
	digest, ok, err := store.BuildRecord(ctx, key)
	if err != nil || !ok || store.Tag(ctx, digest.String(), name) != nil {
		return repo.Entry{}, false
	}
	_, entry, err := store.Image(ctx, name.String())
	return entry, err == nil
}

// buildFrom makes an image straight from a program, a directory or a tar.
func (a *app) buildFrom(cmd *cobra.Command, from, given string) (repo.Entry, error) {
	name, err := nameFor(given, from)
	if err != nil {
		return repo.Entry{}, err
	}
	layer, err := source.From(cmd.Context(), from, source.Options{Notes: a.notes(cmd)})
	if err != nil {
		return repo.Entry{}, err
	}
	store, err := a.store()
	if err != nil {
		return repo.Entry{}, err
	}
	return a.finish(cmd, store, planned{
		name: name, layer: layer,
		recipe: image.Recipe{
			Arch:    firstOf(layer.Arch, guestArch),
			Comment: "capstan build --from " + filepath.Base(from),
			Change: func(file *v1.ConfigFile) {
				file.Config.Entrypoint = layer.Argv
				file.Config.Env = []string{image.DefaultPath}
			},
		},
	})
}

// buildProgram makes an image of a program that run was given.
func (a *app) buildProgram(cmd *cobra.Command, path string) (string, error) {
	entry, err := a.buildFrom(cmd, path, "")
	if err != nil {
		return "", err
	}
	return entry.Name.String(), nil
}

// buildFile makes an image from a Capstanfile.
func (a *app) buildFile(cmd *cobra.Command, given, dir, path string, pull pullFlags) (repo.Entry, error) {
	ctx := cmd.Context()
	if path == "" {
		path = filepath.Join(dir, capstanfile.Name)
	}
	file, err := capstanfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return repo.Entry{}, &hinted{fmt.Errorf("there is no %s", path), "capstan build --from PROGRAM, DIRECTORY or TAR builds without one; Capstanfile.example shows one"}
	}
	if err != nil {
		return repo.Entry{}, err
	}
	name, err := nameFor(given, dir)
	if err != nil {
		return repo.Entry{}, err
	}
	store, err := a.store()
	if err != nil {
		return repo.Entry{}, err
	}
	base, release, err := a.openBase(cmd, store, file, pull)
	if err != nil {
		return repo.Entry{}, err
	}
	defer release()
	if base.disk.Disk != "" {
		return a.buildOSv(cmd, store, name, dir, file, base.disk)
	}
	if err := runBuild(cmd, dir, file); err != nil {
		return repo.Entry{}, err
	}
	opts := source.Options{Notes: a.notes(cmd)}
	if base.tree != nil {
		opts.Base = baseTree{base.tree}
	}
	layer, err := source.FromCapstanfile(ctx, dir, file, opts)
	if err != nil {
		return repo.Entry{}, err
	}
	// Where nobody says it, the program that is to run does.
	program := ""
	if len(file.Cmdline) > 0 {
		program = layer.ArchOf(file.Cmdline[0])
	}
	return a.finish(cmd, store, planned{
		name: name, layer: layer, extra: [][]byte{file.Raw, []byte(base.digest)},
		recipe: image.Recipe{Base: base.img, Arch: firstOf(file.Arch, program, base.arch, guestArch), Comment: "capstan build", Change: image.Configure(file)},
	})
}

// base is the image that a build stands on; the zero value is none.
type base struct {
	img          v1.Image
	tree         *erofs.FS
	digest, arch string
	// disk is the entry of a base that is a disk image; all else is empty then.
	disk repo.Entry
}

// openBase finds the base, pulls it where the flags say so, and opens its files.
// release gives back what that took.
func (a *app) openBase(cmd *cobra.Command, store *repo.Store, file *capstanfile.File, pull pullFlags) (b base, release func(), err error) {
	ctx := cmd.Context()
	release = func() {}
	if file.Base == "" {
		return b, release, nil
	}
	ref, err := a.obtain(cmd, store, file.Base, pull)
	if err != nil {
		return b, release, fmt.Errorf("%s:%d: base: %w", file.Name, file.Line("base"), err)
	}
	img, entry, err := store.Image(ctx, ref)
	if err != nil {
		return b, release, fmt.Errorf("%s:%d: base: %w", file.Name, file.Line("base"), err)
	}
	if entry.Disk != "" {
		return base{disk: entry}, release, nil
	}
	if err := file.CheckWords(); err != nil {
		return b, release, err
	}
	f, err := image.OpenRoot(ctx, store, img, entry.Digest)
	if err != nil {
		return b, release, err
	}
	release = func() { f.Close() }
	tree, err := erofs.Open(f)
	if err != nil {
		release()
		return b, func() {}, fmt.Errorf("opening the base: %w", err)
	}
	return base{img: img, tree: tree, digest: entry.Digest.String(), arch: entry.Architecture}, release, nil
}

// baseTree shows a base's files to package source.
type baseTree struct{ fs *erofs.FS }

func (t baseTree) Lookup(path string) (fs.FileMode, string, bool) {
	name := strings.TrimPrefix(path, "/")
	if name == "" {
		name = "."
	}
	info, err := t.fs.Lstat(name)
	if err != nil {
		return 0, "", false
	}
	if info.Mode().Type() != fs.ModeSymlink {
		return info.Mode().Type(), "", true
	}
	target, err := t.fs.ReadLink(name)
	return fs.ModeSymlink, target, err == nil
}

// runBuild runs a Capstanfile's build command, with its output shown.
func runBuild(cmd *cobra.Command, dir string, file *capstanfile.File) error {
	if file.Build == "" {
		return nil
	}
	shell, flag := "/bin/sh", "-c"
	if runtime.GOOS == "windows" {
		shell, flag = "cmd", "/C"
	}
	c := exec.CommandContext(cmd.Context(), shell, flag, file.Build)
	c.Dir = dir
	c.Stdout, c.Stderr = cmd.ErrOrStderr(), cmd.ErrOrStderr() // standard output has the result
	if err := c.Run(); err != nil {
		return file.Mistake(file.Line("build"), "build", fmt.Sprintf("the command %q ended with %v", brief(file.Build, 60), err))
	}
	return nil
}

// notes tells what is to be said of the inputs, which may be in mid-work.
func (a *app) notes(cmd *cobra.Command) func(string) {
	return func(s string) {
		a.waits.hide()
		note(cmd, "%s", s)
	}
}

// nameFor is the name that was given, or else what path suggests.
func nameFor(given, path string) (repo.Name, error) {
	if given != "" {
		return repo.ParseName(given)
	}
	name, err := repo.ParseName(nameOf(path))
	if err != nil {
		return name, &hinted{fmt.Errorf("the name of %s is none for an image", path), "give one: see capstan build --help"}
	}
	return name, nil
}

// nameOf makes an image's name of a path: its last element without an ending,
// in the letters that names have.
func nameOf(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	base := strings.ToLower(filepath.Base(abs))
	for _, ending := range []string{".gz", ".zst", ".tgz", ".tar", ".exe"} {
		base = strings.TrimSuffix(base, ending)
	}
	name := bytes.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, []byte(base))
	return strings.Trim(string(name), ".-_")
}

// guestArch is the architecture of images that do not say theirs.
const guestArch = "amd64"
