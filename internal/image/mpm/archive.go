// Package mpm reads and makes old Capstan's packages: a directory with the
// files of an application and, in meta/, what describes them; or the same as an
// archive, NAME.mpm, which is a tar, packed by gzip mostly. Packages need each
// other by name. Together they are what OSv's root file system holds, with a
// file /run/NAME for every way to run them. The meaning of the two files in
// meta/ is that of old Capstan's documentation.
package mpm

import (
	"archive/tar"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"capstan/internal/capstanfile"
	"capstan/internal/image/decompress"
	"capstan/internal/image/rofs"
)

const (
	// Ending is of archives.
	Ending = ".mpm"

	metaDir    = "meta"
	readmeName = "meta/README.md"

	// maxMeta bounds each of the files in meta/, in bytes.
	maxMeta = 1 << 20
	// maxArchive bounds an archive, packed or not.
	maxArchive = 16 << 30
)

// Error is a package that cannot be used, and the way out.
type Error struct{ text, hint string }

func (e *Error) Error() string { return e.text }

// Hint is the way out.
func (e *Error) Hint() string { return e.hint }

// Description is what a package says of itself.
type Description struct {
	capstanfile.Package
	Run    *capstanfile.Run // nil where it has no meta/run.yaml
	Readme string
	Raw    []byte // meta/package.yaml
}

// archive is a file that should be a package. The label names it in messages.
type archive struct{ file, label string }

func archiveAt(file string) archive { return archive{file, file} }

// each calls each for the entries, with clean names.
func (a archive) each(ctx context.Context, each func(name string, h *tar.Header, content io.Reader) error) error {
	f, err := os.Open(a.file)
	if err != nil {
		return fmt.Errorf("opening a package: %w", err)
	}
	defer f.Close()
	in, err := decompress.NewReader(f)
	if err != nil {
		return a.broken(err)
	}
	defer in.Close()
	bounded := &io.LimitedReader{R: in, N: maxArchive}
	entries := 0
	err = rofs.EachOf(bounded, func(h *tar.Header, content io.Reader) error {
		entries++
		if err := ctx.Err(); err != nil {
			return err
		}
		return each(path.Clean(strings.TrimLeft(h.Name, "/")), h, content)
	})
	switch {
	case err == nil && bounded.N == 0, errors.Is(err, io.ErrUnexpectedEOF) && bounded.N == 0:
		return &Error{fmt.Sprintf("%s has more than %d GiB, which is the bound", a.label, maxArchive>>30), "a smaller package"}
	case err == nil && entries == 0:
		return &Error{a.label + " is no package: it is no tar, or an empty one", "an archive that capstan package build made"}
	}
	return a.broken(err)
}

// broken tells an archive that cannot be read from one that must not be used.
func (a archive) broken(err error) error {
	var flate flate.CorruptInputError
	for _, cause := range []error{tar.ErrHeader, io.ErrUnexpectedEOF, gzip.ErrHeader, gzip.ErrChecksum, zstd.ErrCRCMismatch, zstd.ErrMagicMismatch} {
		if errors.Is(err, cause) || errors.As(err, &flate) {
			return &Error{a.label + " is no package, or a damaged one", "copy or download it again"}
		}
	}
	return err
}

// Describe reads what an archive says of itself. list, which may be nil, is
// called for what else it holds.
func Describe(ctx context.Context, file string, list func(h *tar.Header) error) (*Description, error) {
	return archiveAt(file).describe(ctx, list)
}

func (a archive) describe(ctx context.Context, list func(h *tar.Header) error) (*Description, error) {
	texts := map[string][]byte{capstanfile.PackageName: nil, capstanfile.RunName: nil, readmeName: nil}
	err := a.each(ctx, func(name string, h *tar.Header, content io.Reader) error {
		if _, wanted := texts[name]; wanted && h.Typeflag == tar.TypeReg {
			b, err := io.ReadAll(io.LimitReader(content, maxMeta+1))
			if err == nil && len(b) > maxMeta {
				err = &Error{fmt.Sprintf("%s in %s has more than %d MiB, which is the bound", name, a.label, maxMeta>>20), "a shorter one"}
			}
			texts[name] = b
			return err
		}
		if list == nil || isMeta(name) {
			return nil
		}
		return list(h)
	})
	if err != nil {
		return nil, err
	}
	return describe(a.label, texts, capstanfile.Foreign)
}

// describe reads what is in meta/. File names the package in messages.
func describe(file string, texts map[string][]byte, from capstanfile.Source) (*Description, error) {
	raw := texts[capstanfile.PackageName]
	if raw == nil {
		return nil, &Error{file + " has no " + capstanfile.PackageName, "capstan package init makes one"}
	}
	pkg, err := capstanfile.ParsePackage(path.Join(filepath.ToSlash(file), capstanfile.PackageName), raw, from)
	if err != nil {
		return nil, err
	}
	d := &Description{Package: *pkg, Readme: string(texts[readmeName]), Raw: raw}
	if run := texts[capstanfile.RunName]; run != nil {
		d.Run, err = capstanfile.ParseRun(path.Join(filepath.ToSlash(file), capstanfile.RunName), run, from)
	}
	return d, err
}

// isMeta tells what describes a package from what is in it.
func isMeta(name string) bool {
	return name == metaDir || strings.HasPrefix(name, metaDir+"/")
}

// archiveSource is what an archive holds, but for what describes it.
func archiveSource(file, name string) rofs.Source {
	return rofs.Source{Name: "the package " + name, Each: func(ctx context.Context, do func(*tar.Header, io.Reader) error) error {
		return archiveAt(file).each(ctx, func(name string, h *tar.Header, content io.Reader) error {
			if isMeta(name) {
				return nil
			}
			return do(h, content)
		})
	}}
}
