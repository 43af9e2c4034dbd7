package mpm

import (
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
)

// Folder is where packages are kept on a machine, as old Capstan did: each as
// NAME.mpm, with its meta/package.yaml beside it as NAME.yaml.
type Folder struct{ Dir string }

const manifestEnding = ".yaml"

// Listed is a package of a folder.
type Listed struct {
	capstanfile.Package
	// Problem is why it cannot be used; Package is empty then but for the name.
	Problem error
}

// List returns the packages, by name. A folder that does not exist is empty.
func (f Folder) List() ([]Listed, error) {
	entries, err := os.ReadDir(f.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the packages: %w", err)
	}
	var list []Listed
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), Ending)
		if !ok || !capstanfile.ValidPackage(name) {
			continue
		}
		l := Listed{Package: capstanfile.Package{Name: name}}
		if pkg, err := f.manifest(name); err != nil {
			l.Problem = err
		} else {
			l.Package = *pkg
		}
		list = append(list, l)
	}
	return list, nil
}

// manifest reads the description that lies beside a package.
func (f Folder) manifest(name string) (*capstanfile.Package, error) {
	file := filepath.Join(f.Dir, name+manifestEnding)
	b, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return capstanfile.ParsePackage(file, b, capstanfile.Foreign)
}

func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMeta+1))
	if err == nil && len(b) > maxMeta {
		err = &Error{fmt.Sprintf("%s has more than %d MiB, which is the bound", file, maxMeta>>20), "a shorter one"}
	}
	return b, err
}

// Path is where a package is, whether it is there or not.
func (f Folder) Path(name string) string { return filepath.Join(f.Dir, name+Ending) }

// Has tells whether a package is there.
func (f Folder) Has(name string) bool {
	info, err := os.Stat(f.Path(name))
	return capstanfile.ValidPackage(name) && err == nil && info.Mode().IsRegular()
}

// Add puts the archive that write writes into the folder, in the place of an
// older one of its name. It must be called want, unless that is "". The label
// names it in messages.
func (f Folder) Add(ctx context.Context, label, want string, write func(w io.Writer) error) (*Description, error) {
	if err := os.MkdirAll(f.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("adding a package: %w", err)
	}
	temp, err := os.CreateTemp(f.Dir, ".new-*")
	if err != nil {
		return nil, fmt.Errorf("adding a package: %w", err)
	}
	defer os.Remove(temp.Name()) // unless it was renamed
	if err = errors.Join(write(&boundedWriter{temp, maxArchive, label}), temp.Chmod(0o644), temp.Close()); err != nil {
		return nil, err
	}
	d, err := archive{temp.Name(), label}.describe(ctx, nil)
	if err != nil {
		return nil, err
	}
	if want != "" && d.Name != want {
		return nil, &Error{fmt.Sprintf("it is the package %s, and not %s", d.Name, want), "its own name"}
	}
	// Without its description a package is not listed, but works: so that is
	// the second of the two.
	if err := os.Rename(temp.Name(), f.Path(d.Name)); err != nil {
		return nil, fmt.Errorf("adding a package: %w", err)
	}
	if err := writeFile(filepath.Join(f.Dir, d.Name+manifestEnding), d.Raw); err != nil {
		return nil, fmt.Errorf("adding a package: %w", err)
	}
	return d, nil
}

// boundedWriter fails where there is more to write than there may be.
type boundedWriter struct {
	w     io.Writer
	left  int64
	label string
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, &Error{fmt.Sprintf("%s has more than %d GiB, which is the bound", b.label, maxArchive>>30), "a smaller package"}
	}
	return b.w.Write(p)
}

// writeFile replaces a file at once.
func writeFile(file string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // unless it was renamed
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}

// MissingError says which packages are needed and not there.
type MissingError struct {
	Names []string
	Where string
}

func (e *MissingError) Error() string {
	if len(e.Names) == 1 {
		return fmt.Sprintf("the package %s is needed, and not in %s", e.Names[0], e.Where)
	}
	return fmt.Sprintf("the packages %s are needed, and not in %s", strings.Join(e.Names, ", "), e.Where)
}

// Hint is the way out.
func (e *MissingError) Hint() string {
	return "--pull-missing; or of each capstan package pull NAME, or capstan package import FILE"
}

// Resolve returns the packages of some names and all that they need, each once
// and behind those that it needs. What is not there is obtained, unless obtain
// is nil.
func (f Folder) Resolve(ctx context.Context, names []string, obtain func(name string) error) ([]*Description, error) {
	r := resolver{folder: f, obtain: obtain, done: map[string]bool{}}
	for _, name := range names {
		if err := r.add(ctx, name, nil); err != nil {
			return nil, err
		}
	}
	if len(r.missing) > 0 {
		return nil, &MissingError{r.missing, f.Dir}
	}
	return r.found, nil
}

type resolver struct {
	folder  Folder
	obtain  func(name string) error
	done    map[string]bool
	found   []*Description
	missing []string
}

// add adds a package, which those in by need.
func (r *resolver) add(ctx context.Context, name string, by []string) error {
	if slices.Contains(by, name) {
		return &Error{fmt.Sprintf("the package %s needs itself, by way of %s", name, strings.Join(by[slices.Index(by, name)+1:], ", ")), "mend require in one of them"}
	}
	if r.done[name] {
		return nil
	}
	if !r.folder.Has(name) && r.obtain != nil {
		if err := r.obtain(name); err != nil {
			return err
		}
	}
	if !r.folder.Has(name) {
		r.done[name] = true
		r.missing = append(r.missing, name)
		return nil
	}
	d, err := Describe(ctx, r.folder.Path(name), nil)
	if err != nil {
		return err
	}
	d.Name = name // which is what it was looked for by
	for _, needed := range d.Require {
		if err := r.add(ctx, needed, append(slices.Clone(by), name)); err != nil {
			return err
		}
	}
	r.done[name] = true
	r.found = append(r.found, d)
	return nil
}
