package main

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/capstanfile"
	"capstan/internal/image/disk"
	"capstan/internal/image/opaque"
	"capstan/internal/image/osv"
	"capstan/internal/image/rofs"
	"capstan/internal/image/source"
	"capstan/internal/repo"
)

// notForOSv are keys of a Capstanfile that a disk image has no place for, with
// what to do about it.
var notForOSv = []struct{ key, instead string }{
	{"user", "remove it: OSv has one user"},
	{"expose", "remove it, and publish ports with capstan run -p"},
	{"volumes", "remove it: an image of OSv has no volumes"},
	{"memory", "remove it: capstan run -m"},
	{"cpus", "remove it: capstan run -c"},
	{"labels", "remove it: capstan import -v and -d note version and description of a disk"},
}

// buildOSv makes an image of a Capstanfile whose base has OSv's disk.
func (a *app) buildOSv(cmd *cobra.Command, store *repo.Store, name repo.Name, dir string, file *capstanfile.File, on repo.Entry) (repo.Entry, error) {
	fail := func(err error) (repo.Entry, error) { return repo.Entry{}, err }
	base, done, err := a.openOSv(cmd.Context(), store, on.Digest.String())
	if err != nil {
		return fail(&hinted{file.Mistake(file.Line("base"), "base", fmt.Sprintf("%s is a disk image: %v", on.Name, err)), "a base of Linux, or one of OSv's"})
	}
	defer done()
	if err := checkForOSv(file, base); err != nil {
		return fail(err)
	}
	if err := runBuild(cmd, dir, file); err != nil {
		return fail(err)
	}
	opts := source.Options{Notes: a.notes(cmd)}
	if base.Root != nil {
		opts.Base = osvTree{base.Root}
	}
	layer, err := source.FromCapstanfile(cmd.Context(), dir, file, opts)
	if err != nil {
		return fail(err)
	}
	key := layer.Fingerprint([]byte("osv"), file.Raw, []byte(on.Digest.String()), []byte(version))
	if entry, ok := a.builtBefore(cmd.Context(), store, key, name); ok {
		return entry, nil
	}
	root, err := planOSv(cmd, file, base, layer)
	if err != nil {
		return fail(err)
	}
	img := osv.Image{Base: base, Root: root, Line: osvLine(file, base.Line), Notes: opaque.Options{Build: "capstan build"}}
	defer a.working(cmd, "writing "+name.Repository())()
	entry, _, err := img.Store(cmd.Context(), store, name)
	if err != nil {
		return fail(err)
	}
	return entry, store.PutBuildRecord(cmd.Context(), key, entry.Digest)
}

// checkForOSv looks for what cannot be of an image of OSv.
func checkForOSv(file *capstanfile.File, base *osv.Base) error {
	for _, not := range notForOSv {
		if line := file.Line(not.key); line > 0 {
			return &hinted{file.Mistake(line, not.key, "an image of OSv has no place for it"), not.instead}
		}
	}
	if file.Arch != "" && file.Arch != guestArch {
		return file.Mistake(file.Line("arch"), "arch", "images of OSv are made for "+guestArch)
	}
	if file.Files != nil || file.Rootfs != "" {
		return filesMistake(file, base)
	}
	return nil
}

// filesMistake is the mistake of adding files to a base that takes none.
func filesMistake(file *capstanfile.File, base *osv.Base) error {
	if err := base.CanTakeFiles(); err != nil {
		return &hinted{file.Mistake(file.Line("base"), "base", "no files can be added to "+file.Base+": "+err.Error()), hintFor(err)}
	}
	return nil
}

// planOSv plans the root file system: the base's, with the files upon it. It is
// nil where there are none, and the base's stays.
func planOSv(cmd *cobra.Command, file *capstanfile.File, base *osv.Base, layer *source.Layer) (*rofs.Tree, error) {
	added := rofs.Tar(file.Name, layer.WriteTar)
	var below []rofs.Source
	if base.Root != nil {
		below = append(below, base.Root.Source("the base"))
	}
	tree, err := rofs.Plan(cmd.Context(), added)
	if err != nil {
		return nil, err
	}
	for range tree.Entries() { // there are some
		if err := filesMistake(file, base); err != nil {
			return nil, err
		}
		return rofs.Plan(cmd.Context(), append(below, added)...)
	}
	return nil, nil
}

// osvLine is the command line that a Capstanfile says, or else the base's, with
// its variables before it.
func osvLine(file *capstanfile.File, old string) string {
	line := firstOf(file.CmdlineText, old)
	if file.CmdlineText == "" && file.Cmdline != nil {
		var words []string
		for _, w := range file.Cmdline {
			words = append(words, disk.OSvWord(w))
		}
		line = strings.Join(words, " ")
	}
	var options []string
	for _, v := range file.Env {
		options = append(options, disk.OSvOption("env", v))
	}
	if file.Workdir != "" {
		options = append(options, disk.OSvOption("cwd", file.Workdir))
	}
	return strings.Join(append(options, strings.TrimSpace(line)), " ")
}

// osvTree shows a base's files to package source.
type osvTree struct{ fs *rofs.FS }

func (t osvTree) Lookup(path string) (fs.FileMode, string, bool) {
	e, ok := t.fs.Lookup(path)
	return e.Type, e.Target, ok
}
