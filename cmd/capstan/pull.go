package main

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/internal/image"
	"capstan/internal/repo"
)

func newPull(a *app) *cobra.Command {
	var platform, key, old string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "pull [flags] NAME",
		Short: "Bring an image from a registry into the local store",
		Long: "Bring an image from a registry into the local store, ready to run. Layers that\n" +
			"the store has are not downloaded again. The digest goes to standard output.",
		Example: "  capstan pull redis\n" +
			"  capstan pull registry.example.org/team/app:1.2\n" +
			"  capstan pull --platform linux/arm64 debian:12\n" +
			"  capstan pull redis@sha256:…\n" +
			"  capstan pull -u https://bucket.s3.amazonaws.com/ team/app",
		Args:              exactly(1, "the name of an image"),
		ValidArgsFunction: first(a.completePull),
	}
	cmd.Flags().StringVar(&platform, "platform", "", "pull for `OS/ARCH[/VARIANT]` (default: what guests here run)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "say nothing but the digest")
	cmd.Flags().StringVarP(&old, "repo", "u", "", "pull from the old repository at `URL`: a bucket as old Capstan used them")
	cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions([]string{"linux/amd64", "linux/arm64"}, cobra.ShellCompDirectiveNoFileComp))
	verifyFlag(cmd, &key, "the image")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := repo.ParseName(args[0])
		if err != nil {
			return err
		}
		want, err := parsePlatform(platform)
		if err != nil {
			return usage(cmd, err)
		}
		verify, err := a.verifier(key)
		if err != nil {
			return err
		}
		progress := newProgress(cmd, quiet)
		opts := image.PullOptions{Platform: want, Progress: progress, Verify: verify}
		var entry repo.Entry
		if old != "" {
			entry, err = a.pullOld(cmd, old, name, opts)
		} else {
			entry, err = a.pull(cmd, name, opts)
		}
		progress.close()
		if err != nil {
			return err
		}
		if !quiet {
			note(cmd, "pulled %s (%s)", entry.Name, size(entry.Size))
		}
		fmt.Fprintln(cmd.OutOrStdout(), entry.Digest)
		return nil
	}
	return cmd
}

// parsePlatform reads OS/ARCH[/VARIANT]; "" is the zero value.
func parsePlatform(s string) (v1.Platform, error) {
	if s == "" {
		return v1.Platform{}, nil
	}
	p, err := v1.ParsePlatform(s)
	if err != nil || p.OS == "" || p.Architecture == "" || p.OSVersion != "" {
		return v1.Platform{}, fmt.Errorf("--platform %s: expected OS/ARCH[/VARIANT], such as linux/arm64", s)
	}
	return *p, nil
}
