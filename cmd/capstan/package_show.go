package main

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capstan/internal/image/mpm"
)

// packageRow is a package as --format shows it.
type packageRow struct {
	Name    string    `json:"name"`
	Title   string    `json:"title,omitempty"`
	Version string    `json:"version,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Problem string    `json:"problem,omitempty"`
}

func packageTable() table[packageRow] {
	return table[packageRow]{
		header: []string{"NAME", "DESCRIPTION", "VERSION", "CREATED"},
		cells: func(r packageRow) []string {
			created := "-"
			if !r.Created.IsZero() {
				created = r.Created.Format("2006-01-02 15:04")
			}
			return []string{r.Name, firstOf(brief(r.Title, 50), "-"), firstOf(r.Version, "-"), created}
		},
	}
}

func newPackageList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the packages on this machine",
		Example: "  capstan package list\n  capstan package list --format '{{.Name}} {{.Version}}'",
		Args:    none,
	}
	format := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := a.packages().List()
		if err != nil {
			return err
		}
		var rows []packageRow
		for _, l := range list {
			r := packageRow{Name: l.Name, Title: l.Title, Version: l.Version, Created: l.Created}
			if l.Problem != nil {
				r.Problem = l.Problem.Error()
				note(cmd, "the package %s has no description that can be read: %v", l.Name, l.Problem)
			}
			rows = append(rows, r)
		}
		return packageTable().print(cmd, *format, rows)
	}
	return cmd
}

func newPackageDescribe(a *app) *cobra.Command {
	var content bool
	cmd := &cobra.Command{
		Use:               "describe [flags] NAME",
		Short:             "Show what a package says of itself",
		Example:           "  capstan package describe osv.cli\n  capstan package describe -c com.example.app",
		Args:              exactly(1, "the name of a package"),
		ValidArgsFunction: first(a.completePackages),
	}
	cmd.Flags().BoolVarP(&content, "content", "c", false, "list its files, too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !a.packages().Has(args[0]) {
			return &hinted{fmt.Errorf("there is no package %q on this machine", args[0]), "capstan package list; or capstan package pull or import"}
		}
		var files []string
		d, err := mpm.Describe(cmd.Context(), a.packages().Path(args[0]), func(h *tar.Header) error {
			if content {
				files = append(files, fmt.Sprintf("%s %11d  %s%s", h.FileInfo().Mode(), h.Size, printable(h.Name), arrow(printable(h.Linkname))))
			}
			return nil
		})
		if err != nil {
			return err
		}
		describePackage(cmd.OutOrStdout(), d, files)
		return nil
	}
	return cmd
}

// describePackage writes what old Capstan did.
func describePackage(w io.Writer, d *mpm.Description, files []string) {
	fmt.Fprintf(w, "PACKAGE METADATA\nname: %s\ntitle: %s\nauthor: %s\n", printable(d.Name), printable(d.Title), printable(d.Author))
	if d.Version != "" {
		fmt.Fprintf(w, "version: %s\n", printable(d.Version))
	}
	if len(d.Require) > 0 {
		fmt.Fprintf(w, "required packages:\n   * %s\n", strings.Join(printables(d.Require), "\n   * "))
	}
	if d.Run == nil {
		fmt.Fprint(w, "\nNo package execution information was found.\n")
	} else {
		fmt.Fprintf(w, "\nPACKAGE EXECUTION\nruntime: %s\ndefault configuration: %s\nconfigurations:\n", printable(d.Run.Runtime), strings.Join(printables(d.Run.Default), ", "))
		for _, set := range d.Run.Sets {
			runs := firstOf(set.Bootcmd, set.Main)
			if set.Base != "" {
				runs = strings.TrimSpace(set.Base + " " + runs)
			}
			fmt.Fprintf(w, "   %-25s %s\n", printable(set.Name), printable(runs))
		}
	}
	if d.Readme != "" {
		fmt.Fprint(w, "\nPACKAGE DOCUMENTATION\n")
		for line := range strings.Lines(strings.TrimSpace(d.Readme)) {
			line = strings.TrimRight(line, "\r\n")
			fmt.Fprintln(w, printable(strings.ReplaceAll(line, "\t", "    ")))
		}
	}
	if files != nil {
		fmt.Fprintf(w, "\nPACKAGE CONTENT\n%s\n", strings.Join(files, "\n"))
	}
}

func (a *app) completePackages(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	if a.complete(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	list, _ := a.packages().List() // nobody to tell of an error
	for _, l := range list {
		names = append(names, l.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
