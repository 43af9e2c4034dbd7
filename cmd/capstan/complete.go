package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/instance"
	"capstan/internal/repo"
)

// Completion reads the index and the directory's names, nothing else. It has
// nobody to tell of errors: without names there is nothing to complete. Where
// nothing else is said there are no files to name.

// completeInstances offers all instances but those named already.
func (a *app) completeInstances(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return without(a.instanceNames(cmd, nil), args), cobra.ShellCompDirectiveNoFileComp
}

// completeRunning offers those that run, completeStopped the others.
func (a *app) completeRunning(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return without(a.instanceNames(cmd, instance.State.Live), args), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeStopped(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	stopped := func(s instance.State) bool { return !s.Live() }
	return without(a.instanceNames(cmd, stopped), args), cobra.ShellCompDirectiveNoFileComp
}

// completeImages offers all images but those named already.
func (a *app) completeImages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return without(a.imageNames(cmd), args), cobra.ShellCompDirectiveNoFileComp
}

// completePush offers images, and the clouds as where they go.
func (a *app) completePush(cmd *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.completeImages(cmd, args, to)
	if len(args) > 0 {
		names = append(names, ec2Target, gceTarget)
	}
	return names, directive
}

// completeRun offers images and programs, which are files; what follows is the
// application's.
func (a *app) completeRun(cmd *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return append(a.imageNames(cmd), a.aliasNames(to)...), cobra.ShellCompDirectiveDefault
}

// completePull offers what there is to pull again, and aliases.
func (a *app) completePull(cmd *cobra.Command, _ []string, to string) ([]string, cobra.ShellCompDirective) {
	return append(a.imageNames(cmd), a.aliasNames(to)...), cobra.ShellCompDirectiveNoFileComp
}

// completeBuild offers the names of images, then directories.
func (a *app) completeBuild(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return a.imageNames(cmd), cobra.ShellCompDirectiveNoFileComp
}

// completeImport offers the names of images, then files.
func (a *app) completeImport(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.imageNames(cmd), cobra.ShellCompDirectiveNoFileComp
}

// first offers what complete does for a command's first argument alone.
func first(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, to)
	}
}

func (a *app) completeBoth(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return without(append(a.instanceNames(cmd, nil), a.imageNames(cmd)...), args), cobra.ShellCompDirectiveNoFileComp
}

// takesFiles has the values of flags completed to files.
func takesFiles(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	}
}

// takesOneOf has the value of a flag completed to one of some words.
func takesOneOf(cmd *cobra.Command, flag string, words ...string) {
	cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func without(names, given []string) []string {
	return slices.DeleteFunc(names, func(s string) bool { return slices.Contains(given, s) })
}

// instanceNames are those of the instances in a state that is wanted; nil
// wants all.
func (a *app) instanceNames(cmd *cobra.Command, want func(instance.State) bool) []string {
	if a.complete(cmd) != nil {
		return nil
	}
	list, err := a.instances().List()
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range list {
		if want == nil || want(i.State) {
			names = append(names, i.Config.Name)
		}
	}
	return names
}

func (a *app) imageNames(cmd *cobra.Command) []string {
	if a.complete(cmd) != nil {
		return nil
	}
	store, err := a.store()
	if err != nil {
		return nil
	}
	list, err := store.Names(cmd.Context())
	if err != nil {
		return nil
	}
	var names []string
	if old, err := a.oldTree().List(); err == nil {
		for _, img := range old {
			names = append(names, img.Name)
		}
	}
	for _, n := range list {
		names = append(names, n.String())
		if short := a.short(n); short != "" {
			names = append(names, short)
		}
	}
	return names
}

// aliasNames returns the aliases of images that can be had. They are many, and
// wait for something to begin with.
func (a *app) aliasNames(to string) []string {
	sources, err := a.sources()
	if err != nil || to == "" {
		return nil
	}
	var names []string
	for _, alias := range sources.Aliases.List() {
		if alias.Target != "" && strings.HasPrefix(alias.Name, to) {
			names = append(names, alias.Name)
		}
	}
	return names
}

// short returns the short name that means n, if one does: that of an image of
// the first registry in which short names are looked for.
func (a *app) short(n repo.Name) string {
	registry := a.settings.Registries.Default()
	if n.Registry == "" || n.Registry != registry {
		return ""
	}
	for _, namespace := range []string{"", n.Namespace} {
		short := repo.Name{Namespace: namespace, Name: n.Name, Tag: n.Tag, Digest: n.Digest}
		if short.At(registry) == n {
			return short.String()
		}
	}
	return ""
}

// complete reads the settings, which cobra's completion does not do itself.
func (a *app) complete(cmd *cobra.Command) (err error) {
	a.settings, err = loadSettings(cmd.Root().PersistentFlags())
	return err
}
