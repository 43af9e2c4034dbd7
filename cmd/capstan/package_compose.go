package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/capstanfile"
	"capstan/internal/image/disk"
	"capstan/internal/image/mpm"
	"capstan/internal/image/opaque"
	"capstan/internal/image/rofs"
	"capstan/internal/repo"
)

// needFlags say which packages an application gets.
type needFlags struct {
	require []string
	pull    bool
}

func (f *needFlags) add(a *app, cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.require, "require", nil, "add a `PACKAGE` and what it needs (repeatable)")
	cmd.Flags().BoolVarP(&f.pull, "pull-missing", "p", false, "pull packages that are not on this machine")
	cmd.RegisterFlagCompletionFunc("require", a.completePackages)
}

// application looks at the package in this directory, and at those that it
// needs.
func (a *app) application(cmd *cobra.Command, f needFlags) (*mpm.Application, []*mpm.Description, error) {
	app, err := mpm.OpenApplication(cmd.Context(), ".", a.notes(cmd))
	if err != nil {
		return nil, nil, err
	}
	var obtain func(name string) error
	if f.pull {
		obtain = func(name string) error { return a.pullPackage(cmd, "", name) }
	}
	packages, err := a.packages().Resolve(cmd.Context(), app.Needs(f.require), obtain)
	return app, packages, err
}

func newPackageCollect(a *app) *cobra.Command {
	var f needFlags
	var verbose bool
	cmd := &cobra.Command{
		Use:   "collect [flags]",
		Short: "Write what an image would hold to the directory mpm-pkg",
		Long: "Write all that an image of the package in this directory would hold, that of the\n" +
			"packages that it needs included, to the directory mpm-pkg.",
		Example: "  capstan package collect\n  capstan package collect -p --require osv.cli",
		Args:    none,
	}
	f.add(a, cmd)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list the files")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		app, packages, err := a.application(cmd, f)
		if err != nil {
			return err
		}
		tree, err := app.Plan(cmd.Context(), a.packages(), packages)
		if err != nil {
			return err
		}
		if verbose {
			listTree(cmd, tree)
		}
		dir, err := app.Collect(cmd.Context(), tree)
		if err != nil {
			return full(dir, err)
		}
		fmt.Fprintln(cmd.OutOrStdout(), dir)
		return nil
	}
	return cmd
}

// bootFlags say what an image runs.
type bootFlags struct {
	run       string
	boot, env []string
}

func newPackageCompose(a *app) *cobra.Command {
	var f composeFlags
	var need needFlags
	var boot bootFlags
	var update bool
	cmd := &cobra.Command{
		Use:   "compose [flags] NAME",
		Short: "Make an image of the package in this directory",
		Long: "Make a disk image that boots OSv, of the package in this directory and those that it\n" +
			"needs. It boots what --run or --boot say, else config_set_default of meta/run.yaml, else\n" +
			"the script /run/default. The file system is OSv's read-only one, ROFS.",
		Example: "  capstan package compose example\n" +
			"  capstan package compose --boot hello --env GREETING=hi --pull-missing team/example\n" +
			"  capstan package compose --run '/hello.so' -l team/osv-loader example",
		Args:              exactly(1, "a name"),
		ValidArgsFunction: first(a.completeImages),
	}
	f.add(a, cmd)
	need.add(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&boot.run, "run", "", "boot with the command `LINE`")
	fl.StringArrayVar(&boot.boot, "boot", nil, "boot with the script of the config_set `NAME` (repeatable)")
	fl.StringArrayVar(&boot.env, "env", nil, "set a variable, `NAME=VALUE` (repeatable)")
	fl.BoolVar(&update, "update", false, "as always: the image is made anew, without what is gone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		size, err := f.check(cmd)
		if err != nil {
			return err
		}
		env, err := boot.check()
		if err != nil {
			return usage(cmd, err)
		}
		name, err := repo.ParseName(args[0])
		if err != nil {
			return err
		}
		app, packages, err := a.application(cmd, need)
		if err != nil {
			return err
		}
		c := composed{name: name, size: size, notes: opaque.Options{Version: app.Version, Description: app.Title, Build: "capstan package compose"}}
		var tree *rofs.Tree
		c.plan = func(ctx context.Context) (*rofs.Tree, error) {
			tree, err = app.Plan(ctx, a.packages(), packages)
			return tree, err
		}
		c.line = func(string) string { return withEnv(env, boot.line(cmd, app, tree)) }
		return a.composeOSv(cmd, f, c)
	}
	return cmd
}

// check looks for mistakes in the flags, and returns the variables.
func (f *bootFlags) check() ([]string, error) {
	if f.run != "" && len(f.boot) > 0 {
		return nil, errors.New("--run and --boot both say what the image boots with")
	}
	for _, set := range f.boot {
		if !capstanfile.ValidSet(set) {
			return nil, &hinted{fmt.Errorf("--boot %q: expected the name of a config_set", set), "--run 'LINE' boots with any command"}
		}
	}
	for _, v := range f.env {
		if v == "" || v[0] == '=' {
			return nil, fmt.Errorf("--env %q: expected NAME=VALUE", v)
		}
	}
	return environment(f.env, nil)
}

// line is the command line that the flags or the package say.
func (f *bootFlags) line(cmd *cobra.Command, app *mpm.Application, tree *rofs.Tree) string {
	if f.run != "" {
		return f.run
	}
	sets := f.boot
	if len(sets) == 0 && app.Run != nil {
		sets = app.Run.Default
	}
	if len(sets) == 0 {
		sets = []string{"default"}
	}
	var line strings.Builder
	for _, set := range sets {
		if !has(tree, mpm.ScriptPath(set)) {
			note(cmd, "there is no /%s in the image: nothing runs unless capstan run --execute says what", mpm.ScriptPath(set))
		}
		fmt.Fprintf(&line, "runscript /%s;", mpm.ScriptPath(set))
	}
	return line.String()
}

func has(tree *rofs.Tree, path string) bool {
	for e := range tree.Entries() {
		if e.Path == path {
			return true
		}
	}
	return false
}

// withEnv puts variables before a command line of OSv's.
func withEnv(env []string, line string) string {
	for n := len(env) - 1; n >= 0; n-- {
		line = disk.OSvOption("env", env[n]) + " " + line
	}
	return line
}

// listTree lists what is in a tree.
func listTree(cmd *cobra.Command, tree *rofs.Tree) {
	for e := range tree.Entries() {
		note(cmd, "%s%s", printable("/"+e.Path), arrow(printable(e.Target)))
	}
}
