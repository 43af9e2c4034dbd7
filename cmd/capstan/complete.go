package main

import (
	"github.com/spf13/cobra"
)

// Completion reads the index and the directory's names, nothing else. It has
// nobody to tell of errors: without names there is nothing to complete.

func (a *app) completeInstances(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.instanceNames(cmd), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeImages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if cmd.Name() == "run" && len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault // the application's arguments
	}
	return a.imageNames(cmd), cobra.ShellCompDirectiveDefault // programs are files
}

func (a *app) completeBoth(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return append(a.instanceNames(cmd), a.imageNames(cmd)...), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) instanceNames(cmd *cobra.Command) []string {
	if a.complete(cmd) != nil {
		return nil
	}
	list, err := a.instances().List()
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Config.Name)
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
	for _, n := range list {
		names = append(names, n.String())
	}
	return names
}

// complete reads the settings, which cobra's completion does not do itself.
func (a *app) complete(cmd *cobra.Command) (err error) {
	a.settings, err = loadSettings(cmd.Root().PersistentFlags())
	return err
}
