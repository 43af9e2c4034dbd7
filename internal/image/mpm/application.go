package mpm

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"capstan/internal/capstanfile"
	"capstan/internal/image/rofs"
	"capstan/internal/image/source"
)

const (
	// Bootstrap is the package that every image needs.
	Bootstrap = "osv.bootstrap"
	// CollectDir is the directory, in an application's, that its image's
	// content is collected in.
	CollectDir = "mpm-pkg"
)

// Application is a package that is a directory.
type Application struct {
	*Description
	dir   string
	layer *source.Layer
}

// OpenApplication looks at a directory. It need not have a meta/package.yaml.
func OpenApplication(ctx context.Context, dir string, notes func(string)) (*Application, error) {
	d, err := describeDir(dir, anonymous)
	if err != nil {
		return nil, err
	}
	note := func(s string) { // that meta/ is left out goes without saying
		if notes != nil && !strings.HasPrefix(s, metaDir+"/") && !strings.HasPrefix(s, CollectDir+" ") {
			notes(s)
		}
	}
	layer, err := source.FromDirectory(ctx, dir, source.Options{Notes: note})
	if err != nil {
		return nil, err
	}
	return &Application{d, dir, layer}, nil
}

// anonymous is the description of an application that has none.
const anonymous = "name: App\ntitle: App\nauthor: Anonymous\n"

// describeDir reads what a directory says of itself. Where it has no
// meta/package.yaml, that says what otherwise does, unless it is "".
func describeDir(dir, otherwise string) (*Description, error) {
	texts := map[string][]byte{}
	if otherwise != "" {
		texts[capstanfile.PackageName] = []byte(otherwise)
	}
	for _, name := range []string{capstanfile.PackageName, capstanfile.RunName, readmeName} {
		b, err := readFile(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the package: %w", err)
		}
		texts[name] = b
	}
	return describe(dir, texts, capstanfile.Own)
}

// Needs are the names of the packages that the application needs, in the order
// in which they go into its image; more are some that were asked for.
func (a *Application) Needs(more []string) []string {
	names := []string{Bootstrap}
	if a.Run != nil {
		if pkg := RuntimePackage(a.Run.Runtime); pkg != "" {
			names = append(names, pkg)
		}
	}
	return slices.Concat(names, a.Require, more)
}

// Plan plans the root file system of the application upon its packages, which
// are in the folder.
func (a *Application) Plan(ctx context.Context, folder Folder, packages []*Description) (*rofs.Tree, error) {
	scripts, err := Scripts(append(slices.Clone(packages), a.Description))
	if err != nil {
		return nil, err
	}
	var sources []rofs.Source
	for _, d := range packages {
		sources = append(sources, archiveSource(folder.Path(d.Name), d.Name))
	}
	own := rofs.Tar("the application", a.layer.WriteTar)
	whole := own.Each
	own.Each = func(ctx context.Context, each func(*tar.Header, io.Reader) error) error {
		return whole(ctx, func(h *tar.Header, content io.Reader) error {
			name := strings.TrimSuffix(h.Name, "/")
			if isMeta(name) || name == a.Name+Ending {
				return nil
			}
			return each(h, content)
		})
	}
	sources = append(sources, own, rofs.Files("the scripts in /run", scripts))
	return rofs.Plan(ctx, sources...)
}

// Directory is a package that is a directory, as it is to be packed.
type Directory struct {
	Name  string
	dir   string
	files []string
}

// OpenDirectory lists what is in a package: all files, but for what was
// collected and an archive of the package that is there already.
func OpenDirectory(dir string) (*Directory, error) {
	desc, err := describeDir(dir, "")
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the package: %w", err)
	}
	defer root.Close()
	d := &Directory{Name: desc.Name, dir: dir}
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == CollectDir:
			return fs.SkipDir
		case name != "." && name != d.Name+Ending:
			d.files = append(d.files, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the package: %w", err)
	}
	return d, nil
}

// Write writes the archive. The same files give the same archive.
func (d *Directory) Write(ctx context.Context, w io.Writer) error {
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return fmt.Errorf("reading the package: %w", err)
	}
	defer root.Close()
	packed := gzip.NewWriter(w)
	p := packer{root, tar.NewWriter(packed)}
	for _, name := range d.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.add(name); err != nil {
			return fmt.Errorf("packing %s: %w", name, err)
		}
	}
	return errors.Join(p.tar.Close(), packed.Close())
}

type packer struct {
	root *os.Root
	tar  *tar.Writer
}

func (p *packer) add(name string) error {
	info, err := p.root.Lstat(name)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Typeflag: tar.TypeReg, Size: info.Size()}
	switch info.Mode().Type() {
	case 0:
	case fs.ModeDir:
		h.Name, h.Typeflag, h.Size = name+"/", tar.TypeDir, 0
		return p.tar.WriteHeader(h)
	case fs.ModeSymlink:
		h.Typeflag, h.Size = tar.TypeSymlink, 0
		if h.Linkname, err = p.root.Readlink(name); err != nil {
			return err
		}
		return p.tar.WriteHeader(h)
	default:
		return &Error{name + " is neither a file, a directory nor a symbolic link, and a package has no other", "remove it"}
	}
	f, err := p.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.tar, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		err = errors.New("it became shorter while it was read")
	}
	return err
}
