package main

import (
	"fmt"
	"os"
	"os/signal"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/cobra"

	"capstan/internal/repo"
	"capstan/internal/repo/remote"
)

func newPush(a *app) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "push [flags] [NAME [TARGET]]",
		Short: "Send an image of the local store to a registry",
		Long: "Send an image of the local store to a registry, under its own name or TARGET.\n" +
			"NAME is what capstan build calls its image in this directory, where it is not\n" +
			"given; a name without a registry goes to the default one. Layers that the\n" +
			"registry has are not sent. The digest goes to standard output: it is the one\n" +
			"that the image has in the store.",
		Example: "  capstan push\n" +
			"  capstan push registry.example.org/team/app:1.2\n" +
			"  capstan push app localhost:5000/team/app",
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.completeImages,
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "say nothing but the digest")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref := nameOf(".")
		if len(args) > 0 {
			ref = args[0]
		}
		target := ref
		if len(args) == 2 {
			target = args[1]
		}
		name, err := repo.ParseName(target)
		if err != nil {
			return err
		}
		name = name.At(a.settings.Registries.Default())
		progress := newProgress(cmd, quiet)
		digest, err := a.push(cmd, ref, name, progress)
		progress.close()
		if err != nil {
			return err
		}
		if !quiet {
			note(cmd, "pushed %s", name)
		}
		fmt.Fprintln(cmd.OutOrStdout(), digest)
		return nil
	}
	return cmd
}

// push sends the image ref of the store to where name says.
func (a *app) push(cmd *cobra.Command, ref string, name repo.Name, progress remote.Progress) (string, error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	store, err := a.store()
	if err != nil {
		return "", err
	}
	if a.settings.Offline {
		return "", errOffline("pushing to " + name.Registry)
	}
	if ref, err = a.stored(ctx, store, ref); err != nil {
		return "", err
	}
	d, err := store.Lookup(ctx, ref)
	if err != nil {
		return "", err
	}
	release, err := store.Hold(ctx, d.Digest)
	if err != nil {
		return "", err
	}
	defer release()
	mounts, err := store.Elsewhere(d, name)
	if err != nil {
		return "", err
	}
	return d.Digest.String(), a.client().Push(ctx, name, store, d, remote.PushOptions{Mounts: mounts, Progress: progress})
}

// client talks to registries as the settings say.
func (a *app) client() *remote.Client {
	return remote.New(remote.Options{
		Registries: a.settings.Registries,
		Keychain:   authn.DefaultKeychain,
		UserAgent:  "capstan/" + version,
	})
}
