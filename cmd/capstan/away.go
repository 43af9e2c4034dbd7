package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
	"capstan/internal/image"
	"capstan/internal/instance"
	"capstan/internal/repo"
)

// isAway tells whether an instance's machine lives on elsewhere.
func (a *app) isAway(cfg instance.Config) bool {
	p, err := platformOf(a.settings, cfg.Platform)
	return err == nil && p.Capabilities().Away
}

// inCloud tells whether an instance's machine lives on in a cloud.
func (a *app) inCloud(cfg instance.Config) bool {
	p, err := platformOf(a.settings, cfg.Platform)
	return err == nil && p.Capabilities().Cloud
}

// createAway makes an instance on a remote platform, machine and all, without
// starting it, or tells what it would do for that. Of what fails nothing is
// left there.
func (a *app) createAway(ctx context.Context, cmd *cobra.Command, f *runFlags, store *repo.Store, img v1.Image, entry repo.Entry, cfg instance.Config) (*instance.Instance, error) {
	cloud, err := f.cloud.spec(a.settings.cloud(cfg.Platform))
	if err != nil {
		return nil, usage(cmd, err)
	}
	if len(cfg.Machine.Ports) > 0 && len(cloud.Sources) == 0 && !f.again {
		note(cmd, "no port is opened to anybody: --allow CIDR says to whom")
	}
	progress := newProgress(cmd, false)
	defer progress.close()
	digest, err := v1.NewHash(cfg.Digest)
	if err != nil {
		return nil, err
	}
	root, err := image.OpenRoot(ctx, store, image.Watched(img, progress), digest)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer root.Close()
	spec := hypervisor.RemoteSpec{
		Progress: progress.Update, Cloud: cloud,
		Disk:      func(guest api.Config) (hypervisor.BootDisk, error) { return a.diskAway(guest, cfg.ID, root) },
		ImageDisk: func(unit int64) (hypervisor.BootDisk, error) { return a.imageAway(img, entry, cfg.Image, root, unit) },
	}
	if f.dryRun {
		progress.close()
		spec.Progress = nil
		return nil, interrupted(ctx, a.rehearse(ctx, cmd, cfg, spec))
	}
	inst, err := a.instances().Create(cfg, func(string) error { return nil })
	if err != nil {
		return nil, err
	}
	if err := inst.Make(ctx, spec); err != nil {
		progress.close()
		return nil, a.undo(ctx, cmd, inst, err)
	}
	return inst, nil
}

// rehearse prints the calls that running an instance on a platform would make.
func (a *app) rehearse(ctx context.Context, cmd *cobra.Command, cfg instance.Config, spec hypervisor.RemoteSpec) error {
	p, err := a.rehearser(cfg.Platform)
	if err != nil {
		return err
	}
	r := p.Rehearse(func(call string) { fmt.Fprintln(cmd.OutOrStdout(), call) })
	spec = cfg.Remote(spec)
	var handle hypervisor.Handle
	keep := func(h hypervisor.Handle) error {
		handle = h
		return nil
	}
	if err := r.Create(ctx, &spec, keep); err != nil {
		return err
	}
	if s, ok := r.(hypervisor.Scaler); ok && cfg.Replicas > 0 {
		return s.Scale(ctx, handle, cfg.Replicas)
	}
	return r.Start(ctx, handle)
}

// rehearser is a platform that can tell what it would do.
func (a *app) rehearser(platform string) (hypervisor.Rehearser, error) {
	p, err := platformOf(a.settings, platform)
	if err != nil {
		return nil, err
	}
	r, ok := p.(hypervisor.Rehearser)
	if !ok {
		return nil, &hypervisor.CannotError{Platform: platform, What: "tell what it would do", Remedy: "--dry-run with --on ec2 or --on gce"}
	}
	return r, nil
}

// making is the context of what is made on a platform that is elsewhere:
// an interrupt ends the work, not the process. On others it is the command's.
func making(cmd *cobra.Command, p hypervisor.Platform) (context.Context, context.CancelFunc) {
	if !p.Capabilities().Away {
		return cmd.Context(), func() {}
	}
	return untilInterrupt(cmd.Context())
}

// untilInterrupt is a context that an interrupt ends, and not the process. The
// next one ends that, too: what is under way may take minutes to end.
func untilInterrupt(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// undoBound bounds the removal of what a command has made that failed: EC2
// takes minutes to end a machine.
const undoBound = 10 * time.Minute

// undo removes a new instance that failed, or whose making was interrupted:
// ctx is that of the making. An interrupt ends the removal, too.
func (a *app) undo(ctx context.Context, cmd *cobra.Command, inst *instance.Instance, failed error) error {
	name, failed := inst.Config.Name, interrupted(ctx, failed)
	if inst.Begun() {
		note(cmd, "removing what was made of %s; Ctrl-C leaves it", name)
	}
	defer a.waits.show(cmd)()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoBound)
	defer cancel()
	bound, stop := untilInterrupt(bound)
	defer stop()
	if err := inst.Discard(bound); err != nil {
		return &leftError{name, failed, err}
	}
	return failed
}

// work does something to an instance. Where that is away, what its platform is
// at is shown, and an interrupt ends the wait for it, not the process: what may
// come of it is told.
func (a *app) work(cmd *cobra.Command, i *instance.Instance, do func(context.Context) error) error {
	if !i.Away() {
		return do(cmd.Context())
	}
	defer a.waits.show(cmd)()
	ctx, stop := untilInterrupt(cmd.Context())
	defer stop()
	err := do(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	return &interruptedError{fmt.Sprintf("%s may go on with %s by itself", i.Config.Platform, i.Config.Name), "capstan ps -a shows how it fares"}
}

// remove removes an instance, by do. Of one that is away an interrupt leaves
// something.
func (a *app) remove(cmd *cobra.Command, i *instance.Instance, do func(context.Context) error) error {
	err := a.work(cmd, i, do)
	if errors.As(err, new(*interruptedError)) {
		return &leftError{i.Config.Name, err, err}
	}
	return err
}

// leftError is a failure after which something is left on a platform.
type leftError struct {
	name        string
	failed, why error
}

func (e *leftError) Error() string {
	failed, why := e.failed.Error(), e.why.Error()
	if errors.Is(e.failed, context.Canceled) {
		failed = "interrupted"
	}
	if errors.Is(e.why, context.Canceled) {
		why = "its removal was interrupted"
	}
	return fmt.Sprintf("%s; and what was made of %s is left: %s", failed, e.name, why)
}

func (e *leftError) Unwrap() error { return e.failed }

// Hint is the way out.
func (e *leftError) Hint() string { return "capstan rm -f " + e.name }

// instance finds an instance, and asks its platform how it fares where nobody
// here knows.
func (a *app) instance(ctx context.Context, name string) (*instance.Instance, error) {
	i, err := a.instances().Get(name)
	if err != nil {
		return nil, err
	}
	look, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	return i, i.Observe(look)
}

// lookBound bounds the question to a platform that may be gone for good.
const lookBound = 30 * time.Second
