package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"capstan/internal/hypervisor"
	"capstan/internal/instance"
)

// maxReplicas is more than any cloud lets one account have by itself.
const maxReplicas = 1000

func newScale(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "scale NAME N",
		Short: "Set how many machines a group has",
		Long: "Set how many machines a group has that was made with run --replicas. Its cloud\n" +
			"makes and removes machines, and replaces those that end. A group that is stopped\n" +
			"will have as many once it is started.",
		Example:           "  capstan scale web 5",
		Args:              exactly(2, "the name of a group, and how many machines it is to have"),
		ValidArgsFunction: first(a.completeInstances),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 || n > maxReplicas {
				return usage(cmd, fmt.Errorf("%s: expected how many machines, %d at most", args[1], maxReplicas))
			}
			if n == 0 {
				return &hinted{errors.New("a group of no machines is a stopped one"), "capstan stop " + args[0]}
			}
			i, err := a.instance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			err = a.work(cmd, i, func(ctx context.Context) error { return i.Scale(ctx, n) })
			if errors.Is(err, instance.ErrNoGroup) {
				return &hinted{err, "a group, by capstan run -d --replicas N on a cloud"}
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), i.Config.Name)
			return nil
		},
	}
}

// checkReplicas is what is wrong with the flags of a group.
func (f *runFlags) checkReplicas(given bool) error {
	switch {
	case f.replicas < 0 || f.replicas > maxReplicas, given && f.replicas == 0:
		return &hinted{fmt.Errorf("--replicas %d: expected how many machines, 1 to %d", f.replicas, maxReplicas), "leave it out for one machine that is no group"}
	case f.replicas > 0 && (f.remove || f.stdin || f.tty):
		return errors.New("--replicas makes a group that runs on until it is removed: it goes with none of --rm, -i and -t")
	case f.replicas > 0 && !f.detach:
		return errors.New("--replicas makes a group that has no terminal: -d goes with it")
	}
	return nil
}

// refuseGroup is why a platform cannot have a group of machines.
func refuseGroup(p hypervisor.Platform, replicas int) error {
	if _, ok := p.(hypervisor.Scaler); ok || replicas == 0 {
		return nil
	}
	return &hypervisor.CannotError{Platform: p.Name(), What: "keep groups of machines", Remedy: "leave --replicas out"}
}
