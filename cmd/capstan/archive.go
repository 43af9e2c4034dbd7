package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"capstan/internal/repo"
)

func newSave(a *app) *cobra.Command {
	var output, format string
	cmd := &cobra.Command{
		Use:   "save [flags] IMAGE...",
		Short: "Write images to a tar archive",
		Long: "Write images to a tar archive, for capstan load, docker load or skopeo. A\n" +
			"docker-archive is read by all of them; oci, an OCI image layout in a tar, also\n" +
			"keeps the images' digests.",
		Example:           "  capstan save -o redis.tar redis:7\n  capstan save --format oci shop:1.2 shop:1.3 | ssh host capstan load",
		Args:              atLeast(1, "an image"),
		ValidArgsFunction: a.completeImages,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` instead of standard output")
	cmd.Flags().StringVar(&format, "format", repo.DockerArchive, "docker-archive or oci")
	takesOneOf(cmd, "format", repo.DockerArchive, repo.OCIArchive)
	takesFiles(cmd, "output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if format != repo.DockerArchive && format != repo.OCIArchive {
			return usage(cmd, fmt.Errorf("--format %s: expected %s or %s", format, repo.DockerArchive, repo.OCIArchive))
		}
		store, err := a.store()
		if err != nil {
			return err
		}
		refs := make([]string, len(args))
		for i, ref := range args {
			if refs[i], err = a.stored(cmd.Context(), store, ref); err != nil {
				return err
			}
		}
		save := func(ctx context.Context, w io.Writer) error {
			buf := bufio.NewWriterSize(w, 256<<10)
			if err := store.Save(ctx, buf, format, refs...); err != nil {
				return err
			}
			return buf.Flush()
		}
		if output != "" {
			// An interrupt ends the work, so that no half of a file is left.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			context.AfterFunc(ctx, stop) // the next one ends the process
			defer a.working(cmd, "saving "+output)()
			err := writeFile(output, func(w io.Writer) error { return save(ctx, w) })
			if errors.Is(err, syscall.ENOSPC) && !errors.As(err, new(*repo.FullError)) { // not the store's disk
				return full(output, err)
			}
			return err
		}
		if f, ok := cmd.OutOrStdout().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return usage(cmd, errors.New("an archive is not for a terminal: name a file with -o, or redirect the output"))
		}
		return save(cmd.Context(), cmd.OutOrStdout())
	}
	return cmd
}

// writeFile makes what write writes the content of the file at path, at once
// or not at all; a device or pipe is written to as it is.
func writeFile(path string, write func(io.Writer) error) error {
	if fi, serr := os.Stat(path); serr == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	return replaceFile(path, func(f *os.File) error { return write(f) })
}

// replaceFile makes a file that is at path at once or not at all.
func replaceFile(path string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func newLoad(a *app) *cobra.Command {
	var input, given string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load [flags]",
		Short: "Read images from a tar archive",
		Long: "Read images from an archive of capstan save or docker save, or of skopeo's\n" +
			"docker-archive: or oci-archive:, plain or compressed by gzip.",
		Example: "  capstan load -i redis.tar\n  docker save app | capstan load",
		Args:    none,
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "read from `FILE` instead of standard input")
	takesFiles(cmd, "input")
	cmd.Flags().StringVar(&given, "name", "", "name the archive's one image so, whatever it is called there")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not tell how far it is")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var name repo.Name
		if given != "" {
			var err error
			if name, err = repo.ParseName(given); err != nil {
				return err
			}
		}
		in := cmd.InOrStdin()
		if f, ok := in.(*os.File); ok && input == "" && term.IsTerminal(int(f.Fd())) {
			return usage(cmd, errors.New("an archive does not come from a terminal: name a file with -i, or redirect the input"))
		}
		if input != "" {
			f, err := os.Open(input)
			if err != nil {
				return err
			}
			defer f.Close()
			progress := newProgress(cmd, quiet)
			defer progress.close()
			return a.load(cmd, progress.reading(f), name, progress.close)
		}
		return a.load(cmd, in, name, func() {})
	}
	return cmd
}

// load reads an archive, and tells of its images once that was read.
func (a *app) load(cmd *cobra.Command, in io.Reader, name repo.Name, read func()) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	entries, err := store.Load(cmd.Context(), in, name)
	read()
	for _, e := range entries {
		fmt.Fprintln(cmd.OutOrStdout(), "loaded", e.Name)
	}
	return err
}

// reading shows how far the reading of a file is.
func (p *progress) reading(f *os.File) io.Reader {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
		return f
	}
	r := &reading{f, p, filepath.Base(f.Name()), 0, fi.Size()}
	p.Update(r.name, r.done, r.total)
	return r
}

type reading struct {
	f           *os.File
	progress    *progress
	name        string
	done, total int64
}

func (r *reading) Read(b []byte) (int, error) {
	n, err := r.f.Read(b)
	r.done += int64(n)
	r.progress.Update(r.name, r.done, r.total)
	return n, err
}
