package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/image/mpm"
)

func newPackage(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "package",
		Short: "Make images of OSv from packages, as old Capstan did",
		Long: "Make and use packages of old Capstan's, for images of OSv. For applications on Linux\n" +
			"there is capstan build.\n\n" + packageHelp,
		Example: "  capstan package init -n com.example.app -t Example -a 'A. Author' --runtime native\n" +
			"  capstan package compose example",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usage(cmd, oldPackageWord(args[0]))
		},
	}
	for _, c := range []*cobra.Command{newPackageInit(), newPackageBuild(), newPackageCompose(a), newPackageCollect(a), newPackageList(a),
		newPackageDescribe(a), newPackageImport(a), newPackagePull(a), newPackageSearch(a), newPackageUpdate(a)} {
		c.RunE = interruptible(c.RunE)
		cmd.AddCommand(c)
	}
	return cmd
}

const packageHelp = `A package is a directory, or the archive NAME.mpm of one, whose files go into the
root of an image. Two of its files are YAML and describe it.

meta/package.yaml:
  name, title, author   must be there
  require               names of packages that it needs
  version, platform, created

meta/run.yaml, with which each set becomes a script /run/NAME in the image:
  runtime               native, node, java or python
  config_set            a map of names to settings, of which every runtime has
                          env: {NAME: value}
                          base: "PACKAGE:SET", whose command is run
                        and native  bootcmd
                            node    main, args, node_args, shell
                            java    main, args, jvm_args, classpath, xms, xmx
                            python  main, args, python_args, shell
  config_set_default    the set, or sets with commas between them, to boot

An image has the package osv.bootstrap, then those of the runtime and of require,
each behind what it needs itself, and the directory's own files last. Of files
with the same name the last one counts. Packages are kept in the folder packages
of the capstan root. What .capstanignore names is left out of images.`

// oldPackageWord is the error of a word that capstan package has no command for.
func oldPackageWord(word string) error {
	if word == "compose-remote" {
		return &hinted{errors.New("capstan package compose-remote is no more: it sent files to machines that took them from anybody"),
			"capstan package compose NAME makes an image, and capstan run starts it"}
	}
	return &hinted{fmt.Errorf("capstan package has no command %q", word), "capstan package --help"}
}

// packages is where packages are kept on this machine.
func (a *app) packages() mpm.Folder {
	return mpm.Folder{Dir: filepath.Join(a.settings.Root, "packages")}
}

// interruptible lets an interrupt end a command's work, and not the process: so
// nothing half-made is left.
func interruptible(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
		defer stop()
		cmd.SetContext(ctx)
		return interrupted(ctx, run(cmd, args))
	}
}

// dirOf is a command's one argument, a directory, or else this one.
func dirOf(args []string) string { return firstOf(strings.Join(args, ""), ".") }
