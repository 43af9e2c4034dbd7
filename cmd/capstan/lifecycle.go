package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capstan/internal/hypervisor"
	"capstan/internal/instance"
)

func (a *app) instances() *instance.Instances {
	return instance.Under(a.settings.Root, a.clean).With(instance.Remotes{Platforms: a.remotes(), Log: a.settings.Log})
}

// onInstances makes a command that does the same to each instance named, and
// prints the names of those it was done to.
func (a *app) onInstances(cmd *cobra.Command, do func(ctx context.Context, i *instance.Instance) error) *cobra.Command {
	return a.onNames(cmd, func(ctx context.Context, name string) (*instance.Instance, error) {
		i, err := a.instance(ctx, name)
		if err == nil {
			err = a.work(cmd, i, func(ctx context.Context) error { return do(ctx, i) })
		}
		return i, err
	})
}

// onNames is onInstances where do finds the instance, too.
func (a *app) onNames(cmd *cobra.Command, do func(ctx context.Context, name string) (*instance.Instance, error)) *cobra.Command {
	cmd.Args = atLeast(1, "the name of an instance")
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = a.completeInstances
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return each(args, func(name string) error {
			i, err := do(cmd.Context(), name)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), i.Config.Name)
			return nil
		})
	}
	return cmd
}

func newStop(a *app) *cobra.Command {
	var timeout int
	cmd := a.onInstances(&cobra.Command{
		Use:     "stop [flags] NAME...",
		Short:   "Stop instances: the application is asked to end, then killed",
		Example: "  capstan stop cache\n  capstan stop -t 60 db",

		ValidArgsFunction: a.completeRunning,
	}, func(ctx context.Context, i *instance.Instance) error {
		err := i.Stop(ctx, timeout)
		if errors.Is(err, instance.ErrNotRunning) {
			return nil // that is what was wanted
		}
		return err
	})
	patienceFlag(cmd, &timeout)
	return cmd
}

// patienceFlag adds the flag that says how long to wait for an application; -1
// is what the instance says.
func patienceFlag(cmd *cobra.Command, seconds *int) {
	cmd.Flags().IntVarP(seconds, "time", "t", -1, "seconds until the application is killed (default: the instance's --stop-timeout); away from this host, where --stop-timeout holds, until the power is cut")
	cmd.Flags().Lookup("time").DefValue = "0" // which help does not show
}

func newKill(a *app) *cobra.Command {
	var sig string
	cmd := a.onInstances(&cobra.Command{
		Use:     "kill [flags] NAME...",
		Short:   "Cut the power of instances, or send their applications a signal",
		Example: "  capstan kill cache\n  capstan kill -s HUP web",

		ValidArgsFunction: a.completeRunning,
	}, func(ctx context.Context, i *instance.Instance) error {
		switch strings.TrimPrefix(strings.ToUpper(sig), "SIG") {
		case "", "KILL", "9": // the end that somebody wanted: no restart follows
			return i.Kill(ctx)
		}
		return i.Signal(ctx, sig)
	})
	cmd.Flags().StringVarP(&sig, "signal", "s", "", "send this `signal` to the application instead of cutting the power")
	takesOneOf(cmd, "signal", "HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2")
	return cmd
}

func newStart(a *app) *cobra.Command {
	var attach, stdin bool
	cmd := &cobra.Command{
		Use:               "start [flags] NAME...",
		Short:             "Start instances that have ended, with all that they had written",
		Example:           "  capstan start db\n  capstan start -a job",
		Args:              atLeast(1, "the name of an instance"),
		ValidArgsFunction: a.completeStopped,
	}
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "show the output and end with the application's status")
	cmd.Flags().BoolVarP(&stdin, "interactive", "i", false, "connect standard input, with -a")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if attach && len(args) > 1 {
			return usage(cmd, errors.New("-a shows one instance"))
		}
		return each(args, func(name string) error {
			i, err := a.instance(cmd.Context(), name)
			if err != nil {
				return err
			}
			if attach && i.Group() {
				return &hinted{fmt.Errorf("%s is a group, which has no terminal", args[0]), "capstan start " + args[0] + "; then capstan logs -f"}
			}
			if attach {
				return a.foreground(cmd.Context(), cmd, i, stdin)
			}
			return a.work(cmd, i, func(ctx context.Context) error { return a.background(ctx, cmd, i) })
		})
	}
	return cmd
}

// background starts an instance, waits until its application was started, and
// prints its name. An application that cannot be started is an error with the
// status that says why.
func (a *app) background(ctx context.Context, cmd *cobra.Command, i *instance.Instance) error {
	started, err := a.start(ctx, cmd, i)
	if err != nil {
		return err
	}
	return a.up(ctx, cmd, i, started)
}

// up waits until a started instance's application was, and prints its name.
func (a *app) up(ctx context.Context, cmd *cobra.Command, i *instance.Instance, started *instance.Started) error {
	defer started.Attached()
	if i.Away() {
		a.waits.show(cmd)
		a.waits.Update("waiting until "+i.Config.Name+" is up", 0, 0)
	}
	now, err := i.Up(ctx)
	a.waits.hide()
	if err != nil {
		return err
	}
	if now.Address != "" {
		note(cmd, "%s has the address %s", i.Config.Name, now.Address)
	}
	fmt.Fprintln(cmd.OutOrStdout(), i.Config.Name)
	if i.Group() && now.Live() && now.Reason != "" {
		return tellTrouble(cmd, i.Config, now)
	}
	if now.Exit.Unstarted() || now.Status == instance.Dead {
		if i.Config.Remove {
			started.Wait()
		}
		return &notStarted{i.Config.Name, now.Reason, now.Exit.Status}
	}
	return nil
}

// tellTrouble says why a group has fewer machines than it is to have. One that
// has none is an error; it is left, for its platform goes on trying.
func tellTrouble(cmd *cobra.Command, cfg instance.Config, now instance.State) error {
	if n := now.On(); n > 0 {
		note(cmd, "%s: %d of %d machines run: %s", cfg.Name, n, now.Replicas, now.Reason)
		return nil
	}
	return &hinted{
		&notStarted{cfg.Name, fmt.Sprintf("none of %d machines runs: %s", now.Replicas, now.Reason), exitFailure},
		fmt.Sprintf("capstan ps, whether it runs meanwhile: %s goes on trying until capstan rm -f %s", cfg.Platform, cfg.Name),
	}
}

func newRestart(a *app) *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:               "restart [flags] NAME...",
		Short:             "Stop instances, where they run, and start them again",
		Example:           "  capstan restart web",
		Args:              atLeast(1, "the name of an instance"),
		ValidArgsFunction: a.completeInstances,
	}
	patienceFlag(cmd, &timeout)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return each(args, func(name string) error {
			i, err := a.instance(cmd.Context(), name)
			if err != nil {
				return err
			}
			if i.Config.Remove && i.State.Live() {
				return &hinted{fmt.Errorf("%s was made with --rm: once stopped it is gone", i.Config.Name), "capstan run it again"}
			}
			return a.work(cmd, i, func(ctx context.Context) error {
				if i.State.Live() {
					if err := i.Stop(ctx, timeout); err != nil && !errors.Is(err, instance.ErrNotRunning) {
						return err
					}
					if err := i.Refresh(); err != nil {
						return err
					}
				}
				return a.background(ctx, cmd, i)
			})
		})
	}
	return cmd
}

func newRm(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] NAME...",
		Aliases: []string{"delete"},
		Short:   "Remove instances, with all that they had written",
		Example: "  capstan rm job\n  capstan rm -f db",
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill it first if it is running")
	return a.onNames(cmd, func(ctx context.Context, name string) (*instance.Instance, error) {
		i, err := a.instance(ctx, name)
		switch {
		case i != nil && errors.Is(err, instance.ErrNotFound):
			err = nil // it has ended and was to be removed then, and is
		case i != nil && force:
			err = a.removeByForce(cmd, i, err)
		case err == nil:
			err = a.remove(cmd, i, i.Remove)
		}
		if errors.Is(err, instance.ErrRunning) {
			err = &hinted{err, "capstan stop it first, or capstan rm -f"}
		}
		return i, err
	})
}

// removeByForce removes an instance whatever it does, and whatever became of the
// question how it fares: asked is what that ended in. A cloud answers again, and
// has its price until then; of another platform that does not answer, the
// instance is forgotten here.
func (a *app) removeByForce(cmd *cobra.Command, i *instance.Instance, asked error) error {
	if !i.Away() {
		return killAndRemove(cmd.Context(), i)
	}
	err := asked
	if a.inCloud(i.Config) || !errors.Is(asked, hypervisor.ErrUnreachable) {
		err = a.remove(cmd, i, i.Discard) // which ends its machine without waiting for it to stop
	}
	if a.inCloud(i.Config) || !errors.Is(err, hypervisor.ErrUnreachable) {
		return err
	}
	c := i.Config
	note(cmd, "%s is forgotten here, and its machine may be left on %s, as what has %s in its name: %v", c.Name, c.Platform, c.ID, err)
	return i.Forget(cmd.Context())
}

func killAndRemove(ctx context.Context, i *instance.Instance) error {
	err := i.Kill(ctx)
	if err == nil && i.Config.Remove {
		return nil // its supervisor has done that
	}
	if err != nil && !errors.Is(err, instance.ErrNotRunning) {
		return err
	}
	err = i.Refresh()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else has done that
	}
	if err != nil {
		return err
	}
	return i.Remove(ctx)
}

func newWait(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "wait NAME...",
		Short:             "Wait for instances to end, and print their exit statuses",
		Long:              "Wait for instances to end, and print their exit statuses. With one name,\ncapstan ends with that status too.",
		Example:           "  capstan wait job",
		Args:              atLeast(1, "the name of an instance"),
		ValidArgsFunction: a.completeRunning,
		RunE: func(cmd *cobra.Command, args []string) error {
			status := 0
			err := each(args, func(name string) error {
				i, err := a.instances().Get(name)
				if err != nil {
					return err
				}
				last, err := i.Wait(cmd.Context())
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), last.Exit.Status)
				if len(args) == 1 {
					status = last.Exit.Status
				}
				return nil
			})
			if err == nil && status != 0 {
				return statusError(status)
			}
			return err
		},
	}
}

func newLogs(a *app) *cobra.Command {
	var follow, kernel bool
	var tail, since string
	cmd := &cobra.Command{
		Use:   "logs [flags] NAME",
		Short: "Show what an instance's application has printed",
		Long: "Show what an instance's application has printed. Of much output the last is kept:\n" +
			"the settings log_size (10M) and log_files (3), in config.yaml or as CAPSTAN_LOG_SIZE\n" +
			"and CAPSTAN_LOG_FILES, say how much.",
		Example:           "  capstan logs web\n  capstan logs -f --tail 10 web\n  capstan logs --since 5m web",
		Args:              exactly(1, "the name of an instance"),
		ValidArgsFunction: first(a.completeInstances),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the instance ends")
	cmd.Flags().StringVarP(&tail, "tail", "n", "all", "show this many of the last lines")
	cmd.Flags().StringVar(&since, "since", "", "show what came after a `time`: 2026-01-31T12:00:00Z, or a span such as 10m")
	cmd.Flags().BoolVar(&kernel, "kernel", false, "show the guest kernel's messages instead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		i, err := a.instance(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		options := instance.LogOptions{Kernel: kernel, Follow: follow, Tail: -1}
		if since != "" {
			if options.Since, err = parseSince(since); err != nil {
				return usage(cmd, err)
			}
		}
		if tail != "all" {
			if options.Tail, err = strconv.Atoi(tail); err != nil || options.Tail < 0 {
				return usage(cmd, fmt.Errorf("--tail %s: expected a number of lines, or all", tail))
			}
		}
		return i.Logs(cmd.Context(), cmd.OutOrStdout(), options)
	}
	return cmd
}

func parseSince(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %s: expected a time such as 2026-01-31T12:00:00Z, or a span such as 10m", s)
}
