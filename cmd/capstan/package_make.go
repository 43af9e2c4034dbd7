package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capstan/internal/capstanfile"
	"capstan/internal/image/mpm"
)

func newPackageInit() *cobra.Command {
	var p capstanfile.Package
	var runtime string
	cmd := &cobra.Command{
		Use:   "init [flags] -n NAME -t TITLE -a AUTHOR [DIR]",
		Short: "Make a package of a directory",
		Long: "Write the meta/package.yaml of a package in DIR (default: this directory), and with\n" +
			"--runtime a meta/run.yaml to be filled in.",
		Example: "  capstan package init -n com.example.app -t Example -a 'A. Author' --require osv.cli\n" +
			"  capstan package init -n app -t App -a Me --runtime node ./app",
		Args:              atMost(1, "a directory"),
		ValidArgsFunction: completeDirs,
	}
	fl := cmd.Flags()
	fl.StringVarP(&p.Name, "name", "n", "", "the package's `NAME`, such as com.example.app")
	fl.StringVarP(&p.Title, "title", "t", "", "what it is, in words")
	fl.StringVarP(&p.Author, "author", "a", "", "who made it")
	fl.StringVarP(&p.Version, "version", "v", "", "its version, such as 1.2")
	fl.StringVarP(&p.Platform, "platform", "p", "", "the platform that its programs were built on")
	fl.StringArrayVar(&p.Require, "require", nil, "a `PACKAGE` that it needs (repeatable)")
	fl.StringVar(&runtime, "runtime", "", "write a meta/run.yaml for "+strings.Join(capstanfile.Runtimes(), ", "))
	takesOneOf(cmd, "runtime", capstanfile.Runtimes()...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, must := range []struct{ flag, value string }{{"-n", p.Name}, {"-t", p.Title}, {"-a", p.Author}} {
			if must.value == "" {
				return usage(cmd, fmt.Errorf("capstan package init needs a name, a title and an author: %s is missing", must.flag))
			}
		}
		if runtime != "" && !slices.Contains(capstanfile.Runtimes(), runtime) {
			return usage(cmd, &hinted{fmt.Errorf("--runtime %s: there is no such runtime", runtime), strings.Join(capstanfile.Runtimes(), ", ")})
		}
		p.Created = time.Now()
		if err := mpm.Init(dirOf(args), p, runtime); err != nil {
			return err
		}
		note(cmd, "made the package %s in %s", p.Name, filepath.Join(dirOf(args), "meta"))
		return nil
	}
	return cmd
}

func completeDirs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func newPackageBuild() *cobra.Command {
	return &cobra.Command{
		Use:   "build [DIR]",
		Short: "Pack a package into the archive NAME.mpm",
		Long: "Pack the package in DIR (default: this directory) into DIR/NAME.mpm, with all its\n" +
			"files: .capstanignore is for images. The archive's path goes to standard output.",
		Example:           "  capstan package build\n  capstan package build ./app",
		Args:              atMost(1, "a directory"),
		ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := dirOf(args)
			d, err := mpm.OpenDirectory(dir)
			if err != nil {
				return err
			}
			path := filepath.Join(dir, d.Name+mpm.Ending)
			if err := replaceFile(path, func(w *os.File) error { return d.Write(cmd.Context(), w) }); err != nil {
				return full(path, err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
}

func newPackageImport(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import [DIR|FILE.mpm]",
		Short: "Keep a package on this machine, for images that need it",
		Long: "Put the package in a directory (default: this one), or in an archive, into the folder\n" +
			"packages of the capstan root, in the place of an older one of its name.",
		Example: "  capstan package import\n" +
			"  capstan package import ./osv.bootstrap.mpm.x86_64",
		Args: atMost(1, "a directory or an archive"),
		ValidArgsFunction: first(func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			from := dirOf(args)
			info, err := os.Stat(from)
			if err != nil {
				return &hinted{fmt.Errorf("there is no directory or archive %s", from), "the path of one"}
			}
			write := func(w io.Writer) error { return copyFrom(w, from) }
			if info.IsDir() {
				dir, err := mpm.OpenDirectory(from)
				if err != nil {
					return err
				}
				write = func(w io.Writer) error { return dir.Write(cmd.Context(), w) }
			}
			d, err := a.packages().Add(cmd.Context(), from, "", write)
			if err != nil {
				return err
			}
			note(cmd, "imported the package %s", d.Name)
			return nil
		},
	}
}

func copyFrom(w io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}
