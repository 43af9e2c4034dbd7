package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"capstan/internal/cloud/ec2"
	"capstan/internal/hypervisor"
	"capstan/internal/instance"
)

// checkCount is what is wrong with the flags of several instances.
func (f *runFlags) checkCount(p hypervisor.Platform) error {
	switch {
	case f.count < 1 || f.count > maxReplicas:
		return &hinted{fmt.Errorf("--count %d: expected how many instances, 1 to %d", f.count, maxReplicas), "--count 3"}
	case f.count == 1:
		return nil
	case f.replicas > 0:
		return &hinted{errors.New("--count makes single instances, and --replicas one group of machines"), "one of them"}
	case !f.detach:
		return &hinted{errors.New("--count runs instances in the background: -d goes with it"), fmt.Sprintf("-d --count %d", f.count)}
	case p.Capabilities().Cloud:
		volumes, _, err := takeVolumes(f.shares)
		for _, v := range volumes {
			if p.Name() == ec2.Name { // whose volumes are attached to one at a time
				return &hinted{fmt.Errorf("--count %d: one instance alone can have the volume %s", f.count, v.Name), "a volume for each"}
			}
			if !v.ReadOnly {
				return &hinted{fmt.Errorf("--count %d: one instance alone can write to the volume %s", f.count, v.Name), "a volume for each, or :ro"}
			}
		}
		return err
	case p.Capabilities().Away:
		return nil
	}
	ports, err := parsePorts(f.ports)
	for _, port := range ports {
		if port.HostPort != 0 {
			return &hinted{fmt.Errorf("--count %d: one instance alone can have the port %d of this host", f.count, port.HostPort), fmt.Sprintf("-p 0:%d, which takes any free port for each", port.Guest)}
		}
	}
	return err
}

// one is the flags of the nth of several instances.
func (f *runFlags) one(n int) *runFlags {
	one := *f
	one.count, one.again = 1, n > 0
	if f.count > 1 && f.name != "" {
		one.name = fmt.Sprintf("%s-%d", f.name, n+1)
	}
	return &one
}

// namesFree is an error where a name is taken that is asked for.
func (a *app) namesFree(f *runFlags) error {
	for n := 0; f.name != "" && n < f.count; n++ {
		name := f.one(n).name
		if i, err := a.instances().Get(name); err == nil && i.Config.Name == name {
			return fmt.Errorf("making instance %s: %w", name, instance.ErrExists)
		}
	}
	return nil
}

// startedInstance is one that was started, and is not known to be up.
type startedInstance struct {
	*instance.Instance
	started *instance.Started
}

// runMany runs instances in the background. All are started before one is
// waited for. Where one fails no more are, and those that run go on.
func (a *app) runMany(ctx context.Context, cmd *cobra.Command, f *runFlags, ref string, args []string) error {
	if f.count > 1 { // once: a file may be a pipe
		env, err := environment(f.env, f.envFiles)
		if err != nil {
			return usage(cmd, err)
		}
		f.env, f.envFiles = env, nil
	}
	var list []startedInstance
	var failed error
	for n := 0; n < f.count && failed == nil; n++ {
		inst, err := a.create(ctx, cmd, f.one(n), ref, args)
		if err == nil && f.dryRun {
			continue
		}
		var started *instance.Started
		if err == nil {
			if started, err = a.start(ctx, cmd, inst); err != nil {
				err = a.unstarted(ctx, cmd, inst, err)
			}
		}
		if failed = err; err == nil {
			list = append(list, startedInstance{inst, started})
		}
	}
	up := 0
	for _, one := range list {
		err := a.up(ctx, cmd, one.Instance, one.started)
		if err == nil {
			up++
		}
		failed = errors.Join(failed, a.unstarted(ctx, cmd, one.Instance, err))
	}
	if failed != nil && f.count > 1 && len(list) > 0 {
		note(cmd, "%d of %d instances run", up, f.count)
	}
	return failed
}

// unstarted removes an instance that could not be started, with an error that
// says why: nobody's data is in it. One that is away goes too where it is not
// known whether it is up; what its application ended with is another thing.
func (a *app) unstarted(ctx context.Context, cmd *cobra.Command, inst *instance.Instance, err error) error {
	switch {
	case err == nil, errors.As(err, new(*notStarted)):
		return err
	case inst.Away():
		return a.undo(ctx, cmd, inst, err)
	case errors.As(err, new(*startError)):
		inst.Remove(ctx) // it holds nothing of anybody's, and the error says more
	}
	return err
}
