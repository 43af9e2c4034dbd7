package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"capstan/internal/cloud/gce"
	"capstan/internal/image/disk/compose"
	"capstan/internal/image/disk/export"
)

// gceTarget is what targets begin with that mean Google Compute Engine.
const gceTarget = "gce:"

// gceFlags are push's for Compute Engine.
type gceFlags struct {
	project, bucket, location, disk string
	dryRun                          bool
}

func (f *gceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.project, "project", "", "on gce: make the image in this `project` (default: as gcloud and the credentials say)")
	cmd.Flags().StringVar(&f.bucket, "bucket", "", "on gce: send the disk through this `bucket` (default: one that is made for it and removed)")
	cmd.Flags().StringVar(&f.location, "location", "", "on gce: keep the image in this `region` (default: as gcloud says)")
	cmd.Flags().StringVar(&f.disk, "disk", "", "in a cloud: make a disk of `SIZE` (default: what the image needs, in whole GiB)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "in a cloud: print the calls that would be made, and change nothing")
}

// unused refuses the flags where the target is a registry.
func (f *gceFlags) unused(cmd *cobra.Command) error {
	for _, flag := range []string{"project", "bucket", "location", "disk", "dry-run"} {
		if cmd.Flags().Changed(flag) {
			return usage(cmd, &hinted{fmt.Errorf("--%s is for pushing to a cloud", flag), "capstan push IMAGE gce:"})
		}
	}
	return nil
}

// pushGCE makes an image of Compute Engine, in the family that name says.
func (a *app) pushGCE(cmd *cobra.Command, f *gceFlags, ref, name string, quiet bool) error {
	name = firstOf(name, gce.NameOf(ref))
	if !gce.ValidName.MatchString(name) {
		return usage(cmd, &hinted{fmt.Errorf("gce:%s: an image of Compute Engine cannot be called that", name),
			fmt.Sprintf("at most %d of a-z, 0-9 and -, with a letter in front", gce.MaxName)})
	}
	nominal, err := diskSize(cmd, f.disk)
	if err != nil {
		return err
	}
	if a.settings.Offline && !f.dryRun {
		return errOffline("pushing to Compute Engine")
	}
	ctx, stop := untilInterrupt(cmd.Context())
	defer stop()
	progress := newProgress(cmd, quiet)
	defer progress.close()
	opts := gceOptions(a.settings)
	opts.Project, opts.Bucket = firstOf(f.project, opts.Project), firstOf(f.bucket, opts.Bucket)
	opts.Location, opts.Progress = firstOf(f.location, opts.Location), progress.Update
	if f.dryRun {
		opts.Would = func(call string) { fmt.Fprintln(cmd.OutOrStdout(), call) }
	}
	cloud, err := gce.Open(ctx, opts)
	if err != nil {
		return interrupted(ctx, err)
	}
	d, err := a.pushable(ctx, cmd, ref, compose.Disk{Size: nominal, Unit: export.GCE.Unit()}, progress)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer d.root.Close()
	made, err := cloud.Push(ctx, &gce.Push{
		Name: name, Image: ref, Digest: d.entry.Digest.String(), Arch: guestArch, Disk: d.id(),
		Archive: func(ctx context.Context, w io.Writer) error {
			return export.Stream(ctx, w, export.GCE, d.named("disk.raw"))
		},
	})
	progress.close()
	if err != nil || f.dryRun {
		return interrupted(ctx, err)
	}
	if !quiet {
		note(cmd, "%s", gcePushed(ref, made))
	}
	fmt.Fprintln(cmd.OutOrStdout(), made.Path)
	return nil
}

// gceOptions are what the settings say of Compute Engine.
func gceOptions(s settings) gce.Options {
	return gce.Options{
		Project: s.GCE.Project, Zone: s.GCE.Zone, Bucket: s.GCE.Bucket, Location: s.GCE.Location,
		Version: version, State: filepath.Join(s.Root, "gce"), Progress: s.progress,
	}
}

func gcePushed(ref string, made gce.Image) string {
	if made.Found {
		return fmt.Sprintf("%s is in Compute Engine already, as %s", ref, made.Name)
	}
	return fmt.Sprintf("pushed %s to Compute Engine as %s, sending %s", ref, made.Name, size(made.Sent))
}
