package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/capstanfile"
	"capstan/internal/cloud/ec2"
	"capstan/internal/cloud/gce"
	"capstan/internal/hypervisor"
)

func newVolume(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "List and remove volumes of clouds",
		Long: "List and remove volumes of clouds: disks that outlive the instances which use them.\n" +
			"A volume is made by the first run that names it, -v NAME:/PATH.",
		Example: "  capstan volume ls\n  capstan volume rm --on gce data",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usage(cmd, &hinted{fmt.Errorf("capstan volume has no command %q", args[0]), "capstan run --on gce -v NAME:/PATH IMAGE, which makes the volume where there is none; or capstan volume --help"})
		},
	}
	cmd.AddCommand(newVolumeList(a), newVolumeRemove(a))
	return cmd
}

func newVolumeList(a *app) *cobra.Command {
	var at volumesAt
	var quiet bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List volumes of clouds",
		Example: "  capstan volume ls\n  capstan volume ls --on gce --format json\n  capstan volume ls --region us-west-2",
		Args:    none,
	}
	format := formatFlag(cmd)
	at.add(cmd, a, "list those of one cloud alone")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := a.keepersAt(cmd, &at)
		if err != nil {
			return err
		}
		// What cannot be asked is told, and does not hide the rest.
		rows, failed := volumesOf(cmd.Context(), from)
		if quiet {
			*format = "{{.Name}}"
		}
		err = table[hypervisor.KeptVolume]{
			header: []string{"NAME", "PLATFORM", "PLACE", "SIZE", "USED BY", "CREATED"},
			cells: func(v hypervisor.KeptVolume) []string {
				return []string{v.Name, v.Platform, v.Place, size(v.Size), firstOf(strings.Join(v.Users, ", "), "-"), ago(v.Created)}
			},
		}.print(cmd, *format, rows)
		return errors.Join(err, failed)
	}
	return cmd
}

func newVolumeRemove(a *app) *cobra.Command {
	var at volumesAt
	cmd := &cobra.Command{
		Use:     "rm NAME...",
		Aliases: []string{"remove"},
		Short:   "Remove volumes of clouds, with all that is in them",
		Example: "  capstan volume rm data\n  capstan volume rm --on gce --zone europe-west4-a data logs",
		Args:    atLeast(1, "the name of a volume"),
	}
	at.add(cmd, a, "the volume's cloud, where several have one of that name")
	cmd.Flags().StringVar(&at.zone, "zone", "", "on gce: the volume's `zone`, where several have one of that name")
	cmd.RunE = interruptible(func(cmd *cobra.Command, names []string) error {
		from, err := a.keepersAt(cmd, &at)
		if err != nil {
			return err
		}
		all, failed := volumesOf(cmd.Context(), from)
		return each(names, func(name string) error {
			v, err := oneVolume(all, name, at.place())
			switch {
			case err != nil: // it may be where nobody could ask
				return errors.Join(err, failed)
			case failed != nil && at.place() == "": // so may another of its name
				return &hinted{fmt.Errorf("there may be another volume %s: %w", name, failed), "capstan volume rm " + flagsOf(v) + " " + name}
			}
			for _, k := range from {
				if k.Name() != v.Platform {
					continue
				}
				if err := k.RemoveVolume(cmd.Context(), v); err != nil {
					return err
				}
			}
			fmt.Fprintln(cmd.OutOrStdout(), name)
			return nil
		})
	})
	return cmd
}

// volumesAt says which volumes are meant: those of which cloud, and where in it.
type volumesAt struct{ on, region, project, zone string }

// add adds the flags, but for --zone.
func (at *volumesAt) add(cmd *cobra.Command, a *app, on string) {
	cmd.Flags().StringVar(&at.on, "on", "", on)
	cmd.Flags().StringVar(&at.region, "region", "", "on ec2: look in this `region` (default: those of the section ec2 of config.yaml, or the AWS configuration's)")
	cmd.Flags().StringVar(&at.project, "project", "", "on gce: look in this `project` (default: as gcloud and the credentials say)")
	cmd.RegisterFlagCompletionFunc("on", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, k := range keepers(remotes(a.settings)) {
			names = append(names, k.Name())
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// place is the region or zone that was said.
func (at *volumesAt) place() string { return firstOf(at.region, at.zone) }

// check is what is wrong with the flags. One that is for one cloud chooses it.
func (at *volumesAt) check() error {
	for _, flag := range []struct{ name, value, cloud string }{{"region", at.region, ec2.Name}, {"project", at.project, gce.Name}, {"zone", at.zone, gce.Name}} {
		if flag.value == "" {
			continue
		}
		if at.on = firstOf(at.on, flag.cloud); at.on != flag.cloud {
			return &hinted{fmt.Errorf("--%s is for %s, and this is %s", flag.name, flag.cloud, at.on), "--on " + flag.cloud}
		}
	}
	if err := checkRegion(at.region); err != nil {
		return err
	}
	return checkZone(at.zone)
}

// keepers are those of the platforms that keep volumes.
func keepers(all []hypervisor.Remote) []hypervisor.VolumeKeeper {
	var some []hypervisor.VolumeKeeper
	for _, r := range all {
		if k, ok := r.(hypervisor.VolumeKeeper); ok {
			some = append(some, k)
		}
	}
	return some
}

// keepersAt are the platforms that look there.
func (a *app) keepersAt(cmd *cobra.Command, at *volumesAt) ([]hypervisor.VolumeKeeper, error) {
	if err := at.check(); err != nil {
		return nil, usage(cmd, err)
	}
	s := a.settings
	if at.region != "" {
		s.EC2.Region, s.EC2.Regions = at.region, nil
	}
	s.GCE.Project = firstOf(at.project, s.GCE.Project)
	a.away = remotes(s)
	all := keepers(a.away)
	if at.on == "" {
		return all, nil
	}
	if n := slices.IndexFunc(all, func(k hypervisor.VolumeKeeper) bool { return k.Name() == at.on }); n >= 0 {
		return all[n : n+1], nil
	}
	if _, err := platformOf(a.settings, at.on); err != nil {
		return nil, usage(cmd, err)
	}
	return nil, &hypervisor.CannotError{Platform: at.on, What: "keep volumes", Remedy: "--on ec2 or --on gce"}
}

// volumesOf are those that there are. Beside an error of some keepers it returns
// the volumes of the others.
func volumesOf(ctx context.Context, from []hypervisor.VolumeKeeper) ([]hypervisor.KeptVolume, error) {
	all, failed, strange := askEach(from, func(k hypervisor.VolumeKeeper) ([]hypervisor.KeptVolume, error) { return k.Volumes(ctx) })
	slices.SortFunc(all, func(x, y hypervisor.KeptVolume) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Platform, y.Platform), strings.Compare(x.Place, y.Place))
	})
	return all, errors.Join(failed, strange)
}

// oneVolume finds the volume of a name that nothing uses.
func oneVolume(all []hypervisor.KeptVolume, name, place string) (hypervisor.KeptVolume, error) {
	var found []hypervisor.KeptVolume
	var where []string
	for _, v := range all {
		if v.Name == name && (place == "" || v.Place == place) {
			found, where = append(found, v), append(where, flagsOf(v))
		}
	}
	where = slices.Compact(where)
	switch {
	case len(found) == 0 && place != "":
		return hypervisor.KeptVolume{}, &hinted{fmt.Errorf("there is no volume %s in %s", name, place), "capstan volume ls"}
	case len(found) == 0:
		return hypervisor.KeptVolume{}, &hinted{fmt.Errorf("there is no volume %s", name), "capstan volume ls"}
	case len(found) > 1 && len(where) == 1:
		err := fmt.Errorf("there are %d volumes %s in %s: %s and %s", len(found), name, found[0].Place, found[0].ID, found[1].ID)
		return hypervisor.KeptVolume{}, &hinted{err, "aws ec2 delete-volume removes the one that is not wanted"}
	case len(found) > 1:
		return hypervisor.KeptVolume{}, &hinted{fmt.Errorf("there are %d volumes %s", len(found), name), strings.Join(where, " or ")}
	case len(found[0].Users) > 0:
		return hypervisor.KeptVolume{}, &hinted{fmt.Errorf("the volume %s is attached to %s", name, strings.Join(found[0].Users, " and ")), "capstan rm of that instance first, which keeps the volume"}
	}
	return found[0], nil
}

// flagsOf are those that say where a volume is.
func flagsOf(v hypervisor.KeptVolume) string {
	flag := "zone"
	if v.Platform == ec2.Name {
		flag = "region"
	}
	return fmt.Sprintf("--on %s --%s %s", v.Platform, flag, v.Place)
}

// takeVolumes parts the volumes among what -v asks for, NAME:GUEST[:ro][:size=SIZE],
// from directories and files of this host.
func takeVolumes(list []string) (volumes []hypervisor.Volume, shares []string, err error) {
	for _, s := range list {
		name, rest, _ := strings.Cut(s, ":")
		if isHostPath(name) {
			shares = append(shares, s)
			continue
		}
		v, err := parseVolume(name, rest)
		if err != nil {
			return nil, nil, fmt.Errorf("-v %s: %w", s, err)
		}
		for _, other := range volumes {
			if other.Name == v.Name {
				return nil, nil, fmt.Errorf("-v %s: the volume %s is asked for twice", s, name)
			}
			if other.Target == v.Target {
				return nil, nil, fmt.Errorf("-v %s: the volume %s is mounted there already", s, other.Name)
			}
		}
		volumes = append(volumes, v)
	}
	return volumes, shares, nil
}

func parseVolume(name, rest string) (hypervisor.Volume, error) {
	v := hypervisor.Volume{Name: name}
	target, options, _ := strings.Cut(rest, ":")
	if !hypervisor.VolumeName.MatchString(name) {
		return v, &hinted{fmt.Errorf("a volume cannot be called %q", name), "a name of at most 40 lower-case letters, digits and hyphens, which begins with a letter"}
	}
	if !path.IsAbs(target) || path.Clean(target) == "/" {
		return v, fmt.Errorf("%q must be an absolute path in the guest, and not its root", target)
	}
	v.Target = path.Clean(target)
	for option := range strings.SplitSeq(options, ":") {
		text, sized := strings.CutPrefix(option, sizeOption)
		switch {
		case sized:
			n, err := capstanfile.ParseMemory(text)
			if err != nil {
				return v, &hinted{fmt.Errorf("size=%s: expected a size with its unit", text), "such as size=20G"}
			}
			v.Size = n
		case option == "ro":
			v.ReadOnly = true
		case option != "" && option != "rw":
			return v, &hinted{fmt.Errorf("%q is neither ro nor a size", option), "-v NAME:/PATH:ro:size=20G"}
		}
	}
	return v, nil
}

// sizeOption is what a size begins with in -v.
const sizeOption = "size="
