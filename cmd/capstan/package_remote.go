package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/capstanfile"
	"capstan/internal/repo"
	"capstan/internal/repo/legacy"
)

// Packages come from old repositories, -u or the setting repo_url.

// maxRemote bounds how many packages of a repository are looked at.
const maxRemote = 2000

// repositoryFlag adds -u to a command.
func repositoryFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("repo", "u", "", "the old repository at `URL` (default: the setting repo_url)")
}

// packageRepository opens the repository that packages come from.
func (a *app) packageRepository(address string) (*legacy.Remote, error) {
	address = firstOf(address, a.settings.RepoURL)
	if address == "" {
		return nil, &hinted{errors.New("no repository for packages is set"),
			"-u URL, or repo_url in config.yaml; or fetch NAME.mpm.x86_64 of https://github.com/cloudius-systems/osv/releases, and capstan package import FILE"}
	}
	return a.oldRepository(address)
}

// pullPackage brings a package from a repository.
func (a *app) pullPackage(cmd *cobra.Command, address, name string) error {
	if !capstanfile.ValidPackage(name) {
		return &hinted{fmt.Errorf("%q is no name of a package", name), "a name such as osv.cli"}
	}
	from, err := a.packageRepository(address)
	if err != nil {
		return err
	}
	archive, size, err := from.Package(cmd.Context(), name)
	if err != nil {
		return err
	}
	defer archive.Close()
	note(cmd, "%s is an old repository, without checksums or signatures: nobody can tell whether %s is what was put there", from, name)
	progress := newProgress(cmd, false)
	in := io.Reader(archive)
	if size > 0 {
		in = &counted{archive, name, 0, size, progress}
	}
	_, err = a.packages().Add(cmd.Context(), name, name, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
	progress.close()
	if err != nil {
		return fmt.Errorf("pulling the package %s: %w", name, err)
	}
	note(cmd, "pulled the package %s", name)
	return nil
}

func newPackagePull(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "pull [flags] NAME...",
		Short:             "Bring packages from an old repository",
		Example:           "  capstan package pull -u https://bucket.s3.amazonaws.com/ osv.bootstrap osv.cli",
		Args:              atLeast(1, "the name of a package"),
		ValidArgsFunction: a.completePackages,
	}
	address := repositoryFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return each(args, func(name string) error { return a.pullPackage(cmd, *address, name) })
	}
	return cmd
}

func newPackageSearch(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "search [flags] [TERM]",
		Short:   "Look for packages in an old repository",
		Example: "  capstan package search -u https://bucket.s3.amazonaws.com/ node",
		Args:    atMost(1, "a part of a name"),
	}
	address := repositoryFlag(cmd)
	format := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := a.packageRepository(*address)
		if err != nil {
			return err
		}
		names, err := from.Packages(cmd.Context())
		if err != nil {
			return err
		}
		var rows []packageRow
		for _, name := range names {
			if !strings.Contains(strings.ToLower(name), strings.ToLower(strings.Join(args, ""))) || !capstanfile.ValidPackage(name) {
				continue
			}
			if len(rows) == maxRemote {
				note(cmd, "there are more than %d: a longer part of the name finds fewer", maxRemote)
				break
			}
			p, err := remoteManifest(cmd.Context(), from, name)
			var mistake *capstanfile.Error
			if errors.As(err, &mistake) {
				rows = append(rows, packageRow{Name: name, Problem: err.Error()})
				continue
			}
			if err != nil {
				return err
			}
			rows = append(rows, packageRow{Name: name, Title: p.Title, Version: p.Version, Created: p.Created})
		}
		return packageTable().print(cmd, *format, rows)
	}
	return cmd
}

// remoteManifest reads a repository's description of a package.
func remoteManifest(ctx context.Context, from *legacy.Remote, name string) (*capstanfile.Package, error) {
	b, err := from.Manifest(ctx, name)
	if err != nil {
		return nil, err
	}
	return capstanfile.ParsePackage(name+".yaml", b, capstanfile.Foreign)
}

func newPackageUpdate(a *app) *cobra.Command {
	var byTime, verbose bool
	cmd := &cobra.Command{
		Use:   "update [flags] [TERM]",
		Short: "Pull the packages of which there are newer ones",
		Long: "Pull anew the packages on this machine, with TERM in their names, of which an old\n" +
			"repository has one of a higher version.",
		Example:           "  capstan package update\n  capstan package update --created -v osv",
		Args:              atMost(1, "a part of a name"),
		ValidArgsFunction: first(a.completePackages),
	}
	address := repositoryFlag(cmd)
	cmd.Flags().BoolVar(&byTime, "created", false, "compare when they were made, and not their versions")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "tell of each package")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := a.packageRepository(*address)
		if err != nil {
			return err
		}
		list, err := a.packages().List()
		if err != nil {
			return err
		}
		updated, looked := 0, 0
		for _, l := range list {
			if !strings.Contains(l.Name, strings.Join(args, "")) {
				continue
			}
			looked++
			there, err := remoteManifest(cmd.Context(), from, l.Name)
			if errors.Is(err, repo.ErrNotFound) {
				if verbose {
					note(cmd, "%s is not in the repository", l.Name)
				}
				continue
			}
			if err != nil {
				return err
			}
			if newer(&l.Package, there, byTime) {
				if err := a.pullPackage(cmd, *address, l.Name); err != nil {
					return err
				}
				updated++
			} else if verbose {
				note(cmd, "%s is as new as the repository's", l.Name)
			}
		}
		note(cmd, "updated %d of %d packages", updated, looked)
		return nil
	}
	return cmd
}

// newer tells whether a package is newer than the one that is here. Versions
// that are none are as good as older ones: pulling mends them.
func newer(here, there *capstanfile.Package, byTime bool) bool {
	if byTime {
		return there.Created.After(here.Created)
	}
	old, ok := versionOf(here.Version)
	is, good := versionOf(there.Version)
	if !ok || !good {
		return here.Version != there.Version
	}
	for n := range old {
		if c := cmp.Compare(is[n], old[n]); c != 0 {
			return c > 0
		}
	}
	return false
}

// versionOf reads one to three numbers with dots between them.
func versionOf(s string) (v [3]int, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) > len(v) {
		return v, false
	}
	for n, part := range parts {
		number, err := strconv.ParseUint(part, 10, 10)
		if err != nil {
			return v, false
		}
		v[n] = int(number)
	}
	return v, true
}
