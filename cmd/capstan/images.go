package main

import (
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/internal/cloud/ec2"
	"capstan/internal/cloud/gce"
	"capstan/internal/instance"
	"capstan/internal/repo"
)

func (a *app) store() (*repo.Store, error) { return repo.Open(a.settings.Root) }

// inUse tells which instances were made from an image. It looks at them when
// it is first asked, which the store does with its lock held: what was removed
// before that is not in use.
func (a *app) inUse() func(v1.Hash) []string {
	list := sync.OnceValues(a.instances().List)
	return func(h v1.Hash) (users []string) {
		all, err := list()
		if err != nil {
			return []string{"instances that cannot be read: " + err.Error()}
		}
		for _, i := range all {
			if i.Config.Digest == h.String() {
				users = append(users, i.Config.Name)
			}
		}
		return users
	}
}

func newImages(a *app) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:     "images",
		Aliases: []string{"i"},
		Short:   "List the images in the local store",
		Long: "List the images in the local store. Those of old Capstan's repository in the\n" +
			"capstan root are listed too, as (old), until capstan run or import takes them in.",
		Example: "  capstan images\n  capstan images --format '{{.Name}} {{.Digest}}'",
		Args:    none,
	}
	format := formatFlag(cmd)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		store, err := a.store()
		if err != nil {
			return err
		}
		rows, err := store.List(cmd.Context())
		if err != nil {
			return err
		}
		old, err := a.oldImages(rows)
		if err != nil {
			return err
		}
		rows = append(rows, old...)
		if quiet {
			*format = "{{.Name}}"
		}
		return table[repo.Entry]{
			header: []string{"NAME", "DIGEST", "ARCH", "CREATED", "SIZE"},
			cells: func(e repo.Entry) []string {
				name := e.Name.String()
				if e.Name.IsZero() {
					name = "<none>"
				}
				if e.Path != "" {
					return []string{name, "(old)", firstOf(e.Disk, "-"), ago(e.Created), size(e.Size)}
				}
				if e.Problem != "" {
					return []string{name, e.Digest.Hex[:12], "-", "-", "damaged: see capstan doctor"}
				}
				arch := e.Architecture
				if e.Disk != "" {
					arch += " " + e.Disk
				}
				return []string{name, e.Digest.Hex[:12], arch, ago(e.Created), size(e.Size)}
			},
		}.print(cmd, *format, rows)
	}
	return cmd
}

func newRmi(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rmi [flags] IMAGE...",
		Short:             "Remove images from the local store",
		Example:           "  capstan rmi redis:7",
		Args:              atLeast(1, "an image"),
		ValidArgsFunction: a.completeImages,
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also if instances were made from it; they keep working")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, err := a.store()
		if err != nil {
			return err
		}
		return each(args, func(ref string) error {
			ref, err := a.stored(cmd.Context(), store, ref)
			if err != nil {
				return err
			}
			removed, err := store.Remove(cmd.Context(), ref, repo.RemoveOptions{InUse: a.inUse(), Force: force})
			if err != nil {
				return err
			}
			for _, name := range removed.Untagged {
				fmt.Fprintln(cmd.OutOrStdout(), "untagged", name)
			}
			for _, digest := range removed.Deleted {
				fmt.Fprintln(cmd.OutOrStdout(), "deleted", digest)
			}
			return nil
		})
	}
	return cmd
}

func newTag(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "tag IMAGE NAME",
		Short:             "Give an image another name",
		Example:           "  capstan tag app app:1.2",
		Args:              exactly(2, "an image and the name to give it"),
		ValidArgsFunction: first(a.completeImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := repo.ParseName(args[1])
			if err != nil {
				return err
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			ref, err := a.stored(cmd.Context(), store, args[0])
			if err != nil {
				return err
			}
			return store.Tag(cmd.Context(), ref, name)
		},
	}
}

func newPrune(a *app) *cobra.Command {
	var all, instances bool
	var on, region string
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what nothing needs any more, and what killed processes left",
		Long: "Remove what nothing needs any more, and what killed processes left.\n\n" +
			"With --on ec2 these are, in a region of EC2, the snapshots, security groups, spot\n" +
			"requests and empty volumes of commands that did not come to their end and, with\n" +
			"--all, the images that neither an instance nor a launch template there is made of;\n" +
			"with --on gce, in a project of Compute Engine, their buckets, firewall rules and empty\n" +
			"volumes and, with --all, the images that neither an instance template nor a disk\n" +
			"there is made of. An image that another host has made within the last hour stays: it\n" +
			"may be about to use it.",
		Example: "  capstan prune\n  capstan prune --all --instances\n  capstan prune --on ec2 --region eu-central-1\n  capstan prune --on gce --all",
		Args:    none,
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also images that no instance was made from, and flattened roots")
	cmd.Flags().BoolVar(&instances, "instances", false, "also instances that are not running")
	cmd.Flags().StringVar(&on, "on", "", "remove it from this platform: ec2 or gce (default: from this host)")
	takesOneOf(cmd, "on", ec2.Name, gce.Name)
	cmd.Flags().StringVar(&region, "region", "", "on ec2: the `region` (default: those of the section ec2 of config.yaml, or the AWS configuration's)")
	pruneEC2 := interruptible(func(cmd *cobra.Command, _ []string) error { return a.pruneEC2(cmd, region, all) })
	pruneAway := interruptible(func(cmd *cobra.Command, _ []string) error { return a.pruneAway(cmd, on, all) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case on == ec2.Name && instances:
			return usage(cmd, &hinted{errors.New("--instances is not for ec2"), "capstan prune --on ec2 --all"})
		case on == ec2.Name:
			return pruneEC2(cmd, args)
		case on == gce.Name && (instances || region != ""):
			return usage(cmd, &hinted{errors.New("--instances and --region are not for gce"), "capstan prune --on gce --all"})
		case on == gce.Name && a.settings.Offline:
			return errOffline("pruning in Compute Engine")
		case on == gce.Name:
			return pruneAway(cmd, args)
		case on != "":
			return usage(cmd, &hinted{fmt.Errorf("--on %s: there is nothing to prune there", on), "--on ec2 or --on gce"})
		case region != "":
			return usage(cmd, &hinted{errors.New("--region is for ec2"), "--on ec2 --region " + region})
		}
		out := cmd.OutOrStdout()
		list, err := a.instances().List()
		if err != nil {
			return err
		}
		if instances {
			list = instance.Survey(cmd.Context(), list)
		}
		for _, i := range list {
			if !instances || i.State.Live() || i.State.Status == instance.Unknown {
				continue
			}
			err := a.remove(cmd, i, i.Remove)
			if errors.Is(err, instance.ErrRunning) || errors.Is(err, instance.ErrNotFound) {
				continue // somebody else has begun to run it, or removed it
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(out, "removed instance", i.Config.Name)
		}
		store, err := a.store()
		if err != nil {
			return err
		}
		r, err := store.Prune(cmd.Context(), repo.PruneOptions{Images: all, Roots: all, InUse: a.inUse()})
		if err != nil {
			return err
		}
		for _, digest := range r.Images {
			fmt.Fprintln(out, "removed image", digest)
		}
		fmt.Fprintf(out, "freed %s: %s, %s, %s\n", size(r.Bytes), count(r.Blobs, "blob"), count(r.Roots, "root"), count(r.Temp, "temporary file"))
		return nil
	}
	return cmd
}
