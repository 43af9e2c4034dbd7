package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/cobra"

	"capstan/internal/repo"
	"capstan/internal/repo/remote"
)

func newPush(a *app) *cobra.Command {
	var quiet bool
	var toGCE gceFlags
	var toEC2 ec2Flags
	cmd := &cobra.Command{
		Use:   "push [flags] [NAME [TARGET]]",
		Short: "Send an image of the local store to a registry, or to a cloud",
		Long: "Send an image of the local store to a registry, under its own name or TARGET.\n" +
			"NAME is what capstan build calls its image in this directory, where it is not\n" +
			"given; a name without a registry goes to the default one. Layers that the\n" +
			"registry has are not sent. The digest goes to standard output: it is the one\n" +
			"that the image has in the store.\n\n" +
			"With gce: or gce:FAMILY as TARGET it becomes an image of Google Compute Engine,\n" +
			"whose path goes to standard output. The same disk is not sent twice, what is in\n" +
			"Cloud Storage on the way is removed, and a push whose connection was lost goes on\n" +
			"when it is repeated.\n\n" +
			"With ec2: or ec2:NAME as TARGET it becomes a machine image (AMI) of Amazon EC2,\n" +
			"whose ID goes to standard output. Only what is not zero on its disk is sent, no\n" +
			"bucket and no role is needed, and the same image is not sent twice. A push that\n" +
			"was cut goes on where it was when it is repeated. docs/ec2.md tells more.",
		Example: "  capstan push\n" +
			"  capstan push registry.example.org/team/app:1.2\n" +
			"  capstan push app localhost:5000/team/app\n" +
			"  capstan push --project my-project app gce:\n" +
			"  capstan push --region eu-central-1 app ec2:",
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.completePush,
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "say nothing but the digest")
	toGCE.add(cmd)
	toEC2.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref := nameOf(".")
		if len(args) > 0 {
			ref = args[0]
		}
		target := ref
		if len(args) == 2 {
			target = args[1]
		}
		if family, ok := strings.CutPrefix(target, gceTarget); ok && len(args) == 2 {
			if err := toEC2.unused(cmd); err != nil {
				return err
			}
			return a.pushGCE(cmd, &toGCE, ref, family, quiet)
		}
		if name, ok := strings.CutPrefix(target, ec2Target); ok && len(args) == 2 {
			toEC2.disk, toEC2.dryRun = toGCE.disk, toGCE.dryRun
			return a.pushEC2(cmd, &toEC2, ref, name, quiet)
		}
		if err := toEC2.unused(cmd); err != nil {
			return err
		}
		if err := toGCE.unused(cmd); err != nil {
			return err
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
	err = a.client().Push(ctx, name, store, d, remote.PushOptions{Mounts: mounts, Progress: progress})
	return d.Digest.String(), interrupted(ctx, err)
}

// client talks to registries as the settings say.
func (a *app) client() *remote.Client {
	return remote.New(remote.Options{
		Registries: a.settings.Registries,
		Keychain:   authn.DefaultKeychain,
		UserAgent:  "capstan/" + version,
	})
}
