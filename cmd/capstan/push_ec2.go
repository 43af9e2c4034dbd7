package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"capstan/internal/cloud/ec2"
	"capstan/internal/image/disk/compose"
)

// ec2Target is what targets begin with that mean Amazon EC2.
const ec2Target = "ec2:"

// ec2Flags are push's for EC2. --disk and --dry-run are for any cloud.
type ec2Flags struct {
	region, disk  string
	copies, share []string
	public, yes   bool
	dryRun        bool
}

func (f *ec2Flags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.region, "region", "", "on ec2: the `region` (default: as the AWS configuration says)")
	cmd.Flags().StringSliceVar(&f.copies, "copy-to", nil, "on ec2: make it available in these `regions`, too")
	cmd.Flags().StringSliceVar(&f.share, "share", nil, "on ec2: let these `accounts` make instances of it")
	cmd.Flags().BoolVar(&f.public, "public", false, "on ec2: let everybody make instances of it")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "on ec2: do not ask whether it is to be public")
}

// unused refuses the flags where the target is another.
func (f *ec2Flags) unused(cmd *cobra.Command) error {
	for _, flag := range []string{"region", "copy-to", "share", "public", "yes"} {
		if cmd.Flags().Changed(flag) {
			return usage(cmd, &hinted{fmt.Errorf("--%s is for pushing to EC2", flag), "capstan push IMAGE " + ec2Target})
		}
	}
	return nil
}

// What regions, accounts and images of EC2 are called. An image's name has 13
// characters more, which are its disk's.
var (
	validRegion  = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-\d+$`)
	validAccount = regexp.MustCompile(`^\d{12}$`)
	validAMI     = regexp.MustCompile(`^[a-zA-Z0-9()\[\] ./'@_-]{3,115}$`)
)

func checkRegion(name string) error {
	if name == "" || validRegion.MatchString(name) {
		return nil
	}
	return &hinted{fmt.Errorf("%q is no name of a region", name), "one such as eu-central-1"}
}

// check looks for mistakes before anything is done, and returns --disk.
func (f *ec2Flags) check(cmd *cobra.Command, name string) (int64, error) {
	for _, region := range append(slices.Clone(f.copies), f.region) {
		if err := checkRegion(region); err != nil {
			return 0, usage(cmd, err)
		}
	}
	for _, account := range f.share {
		if !validAccount.MatchString(account) {
			return 0, usage(cmd, &hinted{fmt.Errorf("--share %s: an account has 12 digits", account), "the account's ID, without hyphens"})
		}
	}
	for _, flag := range []string{"project", "bucket", "location"} {
		if cmd.Flags().Changed(flag) {
			return 0, usage(cmd, &hinted{fmt.Errorf("--%s is for Compute Engine", flag), "--region says where in EC2"})
		}
	}
	if !validAMI.MatchString(name) {
		return 0, usage(cmd, &hinted{fmt.Errorf("ec2:%s: an image in EC2 cannot be called that", name), "3 to 115 of letters, digits, blanks and ()[]./-'@_"})
	}
	return diskSize(cmd, f.disk)
}

// pushEC2 makes a machine image of EC2.
func (a *app) pushEC2(cmd *cobra.Command, f *ec2Flags, ref, name string, quiet bool) error {
	name = firstOf(name, ec2.ImageName(ref))
	nominal, err := f.check(cmd, name)
	if err != nil {
		return err
	}
	if a.settings.Offline {
		return errOffline("pushing to EC2")
	}
	if f.public && !f.dryRun && !f.yes {
		if err := confirm(cmd, "Everybody will be able to read what is in "+ref+". Make it public?"); err != nil {
			return err
		}
	}
	ctx, stop := untilInterrupt(cmd.Context())
	defer stop()
	progress := newProgress(cmd, quiet)
	defer progress.close()
	opts := a.ec2Options(f.region)
	opts.Progress = progress.Update
	if f.dryRun {
		opts.Would = func(call string) { fmt.Fprintln(cmd.OutOrStdout(), call) }
	}
	cloud, err := ec2.Open(ctx, opts)
	if err != nil {
		return interrupted(ctx, err)
	}
	d, err := a.pushable(ctx, cmd, ref, compose.Disk{Size: nominal, Unit: ec2.Unit}, progress)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer d.root.Close()
	push := &ec2.Push{
		Name: name, Image: ref, Digest: d.entry.Digest.String(), Arch: guestArch,
		Disk: d.id(), Size: d.layout.Size,
		Write: func(ctx context.Context, w io.WriterAt) error { return d.Write(ctx, w, d.layout) },
	}
	images, err := f.push(ctx, cloud, push)
	progress.close()
	if f.dryRun {
		return interrupted(ctx, err)
	}
	for _, img := range images {
		if !quiet {
			note(cmd, "%s", pushed(ref, img))
		}
		fmt.Fprintln(cmd.OutOrStdout(), img.ID)
	}
	return interrupted(ctx, err)
}

// ec2Options are what the settings say of EC2.
func ec2Options(s settings) ec2.Options {
	return ec2.Options{Region: s.EC2.Region, Regions: s.EC2.Regions, Version: version, State: filepath.Join(s.Root, "ec2"), Progress: s.progress}
}

func (a *app) ec2Options(region string) ec2.Options {
	o := ec2Options(a.settings)
	if region != "" {
		o.Region, o.Regions = region, nil
	}
	return o
}

// pruneEC2 removes what is left over in a region, or in those of the settings.
func (a *app) pruneEC2(cmd *cobra.Command, region string, all bool) error {
	if err := checkRegion(region); err != nil {
		return usage(cmd, err)
	}
	if a.settings.Offline {
		return errOffline("pruning in EC2")
	}
	return a.prune(cmd, ec2.New(a.ec2Options(region)), all)
}

// push makes the image, its copies, and lets others have them. With an error it
// returns those that are there by then.
func (f *ec2Flags) push(ctx context.Context, cloud *ec2.Client, p *ec2.Push) ([]ec2.Image, error) {
	first, err := cloud.Push(ctx, p)
	if err != nil {
		return nil, err
	}
	images := []ec2.Image{first}
	for _, region := range f.copies {
		copied, err := cloud.Copy(ctx, p, first, region)
		if err != nil {
			return images, err
		}
		images = append(images, copied)
	}
	if f.public || len(f.share) > 0 {
		for _, img := range images {
			if err := cloud.Share(ctx, img, f.share, f.public); err != nil {
				return images, err
			}
		}
	}
	return images, nil
}

func pushed(ref string, img ec2.Image) string {
	if img.Found {
		return fmt.Sprintf("%s is in %s already, as %s", ref, img.Region, img.ID)
	}
	return fmt.Sprintf("pushed %s to %s as %s, sending %s", ref, img.Region, img.ID, size(img.Sent))
}

// confirm asks at the terminal, and returns an error unless the answer is yes.
func confirm(cmd *cobra.Command, question string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usage(cmd, &hinted{errors.New("there is no terminal to ask at: " + question), "--yes answers it"})
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	var answer string
	_, _ = fmt.Fscanln(os.Stdin, &answer) // an end, or an empty line, is no
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return errors.New("nothing is done")
	}
	return nil
}
