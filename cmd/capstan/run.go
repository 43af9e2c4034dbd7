package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"capstan/internal/hypervisor"
	"capstan/internal/image/erofs"
	"capstan/internal/image/opaque"
	"capstan/internal/instance"
)

// runFlags are run's flags as they were given.
type runFlags struct {
	detach, remove, stdin, tty, verbose, readOnly     bool
	dryRun                                            bool
	again                                             bool // not the first of several: what was told is not told again
	name, memory, entrypoint, user, workdir, hostname string
	on, accel, restart, network                       string
	pull                                              pullFlags
	execute, firmware, bus                            string
	cpus, stopTimeout, replicas, count                int
	ports, env, envFiles, shares, labels              []string
	cloud                                             cloudFlags
}

func newRun(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE|./PROGRAM [ARG...]",
		Short: "Run an image, or a program of this host, as a virtual machine",
		Long: "Run an image as a virtual machine. Its output is the terminal's; Ctrl-C stops it,\n" +
			"a second Ctrl-C kills it, and capstan ends with the application's exit status.\n" +
			"With -d it runs on in the background once its application was started: capstan logs\n" +
			"-f shows its output. With -dit it has a terminal and an open input that nobody types\n" +
			"at, until capstan start -ai runs it again at this one.\n" +
			"A path that begins with . or / is a program: it is packed with the libraries\n" +
			"that it needs, and run. An image that the local store does not have is pulled:\n" +
			"the alias table and the registries in the configuration say from where.\n\n" +
			"What follows the image's name is for the application, as with docker run. One thing\n" +
			"that old Capstan's users write there is understood: -p HOST:GUEST, right after the\n" +
			"name, to a port that the image exposes. A -- before it keeps it for the application.",
		Example: "  capstan run --rm redis\n" +
			"  capstan run -d --name cache -p 6379:6379 -m 64M redis\n" +
			"  capstan run --rm ./server -- --listen :8080\n" +
			"  capstan run -v ./site:/usr/share/nginx/html:ro -p 8080:80 nginx\n" +
			"  capstan run --on ec2 --region eu-central-1 -d -p 6379 --allow 203.0.113.0/24 redis\n" +
			"  capstan run --on gce --dry-run -p 6379 redis",
		Args:              atLeast(1, "an image"),
		ValidArgsFunction: a.completeRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd, &f, args[0], args[1:])
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false) // what follows the image is the application's
	fl.BoolVarP(&f.detach, "detach", "d", false, "run in the background and print the instance's name")
	fl.BoolVar(&f.remove, "rm", false, "remove the instance when it ends; its writes stay in memory, or in a cloud on its disk, which goes with it")
	fl.BoolVarP(&f.stdin, "interactive", "i", false, "connect standard input")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the application a terminal")
	fl.StringVar(&f.name, "name", "", "name of the instance")
	fl.StringArrayVarP(&f.ports, "publish", "p", nil, "forward `[IP:]HOST:GUEST[/udp]`; HOST 0 is any free port, IP 127.0.0.1 unless given")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set `NAME=VALUE`; NAME alone takes this process's value")
	fl.StringArrayVar(&f.envFiles, "env-file", nil, "read NAME=VALUE lines from `FILE`")
	fl.StringVarP(&f.memory, "memory", "m", "", "memory, such as 64M or 2G")
	fl.IntVarP(&f.cpus, "cpus", "c", 0, "number of CPUs")
	fl.StringArrayVarP(&f.shares, "volume", "v", nil, "share a directory or file of this host, `HOST:GUEST[:ro]`; in a cloud, attach a volume, which is made if there is none: NAME:GUEST[:ro][:size=20G]")
	fl.StringVar(&f.entrypoint, "entrypoint", "", "program to run instead of the image's")
	fl.StringVarP(&f.user, "user", "u", "", "user to run as: `NAME|UID[:GROUP|GID]`")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working directory in the guest")
	fl.StringVar(&f.on, "on", "", "platform to run on: "+strings.Join(platforms(), " or ")+" (default: the first that is installed)")
	fl.StringVar(&f.network, "network", "", "nat, none, or `bridge:INTERFACE` for an address in this host's own network (default nat)")
	fl.StringVar(&f.accel, "accel", "", "accelerator: kvm, hvf, whpx or tcg (default: the best that really works)")
	fl.IntVar(&f.stopTimeout, "stop-timeout", 10, "seconds between asking the application to end and killing it")
	fl.StringVar(&f.hostname, "hostname", "", "the guest's host name (default: the instance's name)")
	fl.StringArrayVarP(&f.labels, "label", "l", nil, "label the instance: `KEY=VALUE`")
	fl.StringVar(&f.restart, "restart", "no", "when to start it again: no, on-failure[:N] or always")
	fl.BoolVar(&f.readOnly, "read-only", false, "mount the root without any place to write")
	fl.IntVar(&f.replicas, "replicas", 0, "make a group of `N` machines, which a cloud keeps at that number")
	fl.IntVar(&f.count, "count", 1, "run `N` instances, called NAME-1 and so on, with -d")
	fl.BoolVar(&f.dryRun, "dry-run", false, "in a cloud: print the calls that would be made, and change nothing")
	fl.StringVar(&f.execute, "execute", "", "command line of an OSv disk image, in the place of its own")
	fl.StringVar(&f.firmware, "firmware", "", "what boots a disk image: bios or uefi (default: what the image says)")
	fl.StringVar(&f.bus, "bus", "", "how a disk image is attached: virtio, ide or sata (default: what the image says)")
	fl.BoolVar(&f.verbose, "verbose", false, "let the kernel and PID 1 say what they do, in the instance's kernel.log")
	takesFiles(cmd, "env-file", "volume")
	takesOneOf(cmd, "on", platforms()...)
	takesOneOf(cmd, "network", "nat", "none", "bridge:")
	takesOneOf(cmd, "accel", "kvm", "hvf", "whpx", "tcg")
	takesOneOf(cmd, "restart", "no", "on-failure", "always")
	takesOneOf(cmd, "firmware", opaque.Firmwares()...)
	takesOneOf(cmd, "bus", opaque.Buses()...)
	f.cloud.add(cmd)
	f.pull.add(cmd, "the image")
	return cmd
}

func (a *app) run(cmd *cobra.Command, f *runFlags, ref string, args []string) error {
	p, err := a.platform(f.on)
	if err == nil {
		err = f.checkCount(p)
	}
	if err != nil {
		return usage(cmd, err)
	}
	if err := a.namesFree(f); err != nil {
		return err
	}
	if isPath(ref) {
		if f.pull.verifyKey != "" {
			return usage(cmd, fmt.Errorf("--verify-key: %s is a program of this host, and no image that could be signed", ref))
		}
		built, err := a.buildProgram(cmd, ref)
		if err != nil {
			return err
		}
		ref = built
		if len(args) > 0 && args[0] == "--" {
			args = args[1:] // it parts a program from its arguments, and is none of them
		}
	}
	ctx, stop := making(cmd, p)
	defer stop()
	if f.detach || f.dryRun {
		return a.runMany(ctx, cmd, f, ref, args)
	}
	inst, err := a.create(ctx, cmd, f, ref, args)
	if err != nil {
		return err
	}
	err = a.foreground(ctx, cmd, inst, f.stdin)
	if errors.As(err, new(*startError)) {
		return a.unstarted(ctx, cmd, inst, err)
	}
	return err
}

// lostSight is an error after which an instance that is elsewhere is there yet.
func (a *app) lostSight(inst *instance.Instance, err error) error {
	name := inst.Config.Name
	if _, gone := a.instances().Get(name); gone != nil {
		return err
	}
	left, hint := name+" is left as it is", fmt.Sprintf("capstan logs -f %s goes on with it, and capstan rm -f %s removes it", name, name)
	if errors.Is(err, context.Canceled) {
		return &interruptedError{left, hint}
	}
	return &hinted{fmt.Errorf("%w; %s", err, left), hint}
}

// startError is an instance that could not be started.
type startError struct{ err error }

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

func (a *app) start(ctx context.Context, cmd *cobra.Command, inst *instance.Instance) (*instance.Started, error) {
	if err := checkRoot(inst); err != nil {
		return nil, err
	}
	if inst.Away() {
		defer a.waits.show(cmd)()
	}
	started, err := inst.Start(ctx)
	if err != nil {
		return nil, &startError{fmt.Errorf("starting %s: %w", inst.Config.Name, err)}
	}
	tellStart(cmd, started.State)
	return started, nil
}

// checkRoot looks whether the instance's disks are there, and its root is a
// file system at all: the guest could say no more than that it cannot mount it.
func checkRoot(inst *instance.Instance) error {
	name := inst.Config.Name
	if inst.Damaged != nil {
		return &hinted{inst.Damaged, "capstan rm " + name + "; then run it again"}
	}
	if inst.Away() {
		return nil // its disk is there
	}
	if inst.Config.Machine.System != nil {
		return checkSystem(inst)
	}
	if disk := inst.Config.Machine.Bootable; disk != "" {
		if _, err := os.Stat(filepath.Join(inst.Dir, disk)); err != nil {
			return &hinted{fmt.Errorf("the disk of %s is missing", name), "capstan rm " + name + "; then run it again"}
		}
		return nil
	}
	if inst.Config.Machine.Guest.Root.Upper != "" {
		if _, err := os.Stat(filepath.Join(inst.Dir, upperFile)); err != nil {
			return &hinted{fmt.Errorf("the writable disk of %s is missing", name), "capstan rm " + name + "; then run it again"}
		}
	}
	f, err := os.Open(filepath.Join(inst.Dir, rootFile))
	if err == nil {
		defer f.Close()
		_, err = erofs.Open(f)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("it is missing")
	}
	image := inst.Config.Image
	return &hinted{
		fmt.Errorf("the root file system of %s is damaged: %w", name, err),
		fmt.Sprintf("capstan rm %s; capstan rmi -f %s; then build or pull %s and run it again", name, image, image),
	}
}

// tellStart says in one line each what a user has to know of a machine.
func tellStart(cmd *cobra.Command, state instance.State) {
	if state.AccelWhy != "" {
		note(cmd, "running without acceleration: %s", state.AccelWhy)
	}
	for _, p := range state.Ports {
		if term.IsTerminal(int(os.Stderr.Fd())) {
			note(cmd, "port %s", p)
		}
	}
}

// tellAddress waits for the address of a machine that has one of its own, and
// says it.
func tellAddress(ctx context.Context, cmd *cobra.Command, inst *instance.Instance) error {
	now, err := inst.Up(ctx)
	if err == nil && now.Address != "" {
		note(cmd, "%s has the address %s", inst.Config.Name, now.Address)
	}
	return err
}

// foreground runs an instance at the terminal until it ends. starting is the
// context of its start alone.
func (a *app) foreground(starting context.Context, cmd *cobra.Command, inst *instance.Instance, stdin bool) error {
	// Before anything starts: no signal may kill this process and leave the
	// machine to nobody's sight.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)

	offset, err := inst.LogSize()
	if err != nil {
		return err
	}
	resume := func() {}
	if inst.Away() {
		resume = yield(starting, signals)
	}
	started, err := a.start(starting, cmd, inst)
	if err != nil {
		return err
	}
	resume()
	last, err := a.watch(context.WithoutCancel(cmd.Context()), cmd, inst, started, offset, stdin, signals)
	if err != nil && inst.Away() {
		err = a.lostSight(inst, err)
	}
	if err != nil {
		return err
	}
	return a.status(cmd, inst, last)
}

// yield lets interrupts end the process once ctx has ended, until resume is
// called: a platform may take minutes to end a start that nobody waits for.
func yield(ctx context.Context, signals chan<- os.Signal) (resume func()) {
	yielded := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		signal.Stop(signals)
		close(yielded)
	})
	return func() {
		if !stop() {
			<-yielded
			signal.Notify(signals, os.Interrupt)
		}
	}
}

// watch shows a started instance's output, from an offset of its log, until it
// has ended and, where it was to be removed, is gone.
func (a *app) watch(ctx context.Context, cmd *cobra.Command, inst *instance.Instance, started *instance.Started, offset int64, stdin bool, signals <-chan os.Signal) (instance.State, error) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	link, err := inst.Attach(ctx, offset)
	started.Attached()
	if errors.Is(err, instance.ErrNotRunning) {
		return inst.Wait(ctx) // its supervisor was killed
	}
	if err != nil {
		return instance.State{}, err
	}
	restore := a.terminal(cmd, inst, stdin)
	defer restore()
	go interrupts(ctx, cmd, *inst, signals, leave)
	if inst.Away() {
		if err := tellAddress(ctx, cmd, inst); err != nil {
			return instance.State{}, err
		}
	}
	_, copyErr := io.Copy(cmd.OutOrStdout(), link.Output)
	link.Output.Close()
	if copyErr != nil {
		copyErr = fmt.Errorf("copying the output: %w", copyErr)
	}
	if copyErr != nil && inst.Away() && !errors.Is(copyErr, hypervisor.ErrGone) {
		return instance.State{}, copyErr // its end may be far
	}
	last, err := link.Wait(ctx)
	if err != nil {
		return last, err
	}
	started.Wait()
	if last.Status != instance.Dead {
		err = copyErr
	}
	return last, err
}

// status turns an instance's end into this process's.
func (a *app) status(cmd *cobra.Command, inst *instance.Instance, last instance.State) error {
	switch {
	case last.Exit.OOM:
		note(cmd, "%s: the application was killed because the guest's memory (%s) was used up; try: more with -m", inst.Config.Name, size(inst.Config.Machine.Memory))
	case last.Reason != "":
		note(cmd, "%s: %s", inst.Config.Name, last.Reason)
	}
	if last.Exit.Status == 0 {
		return nil
	}
	return statusError(last.Exit.Status)
}

// interrupts stops the instance at the first signal and kills it at the next.
// One that is away is left at the third: its platform may do neither.
func interrupts(ctx context.Context, cmd *cobra.Command, inst instance.Instance, signals <-chan os.Signal, leave func()) {
	terminated := cmd.Context().Done()
	name, terminal := inst.Config.Name, term.IsTerminal(int(os.Stderr.Fd()))
	for n := 1; ; n++ {
		select {
		case <-signals:
		case <-terminated:
			terminated = nil
		case <-ctx.Done():
			return
		}
		own := inst // others learn how it fares, too
		switch {
		case n == 1:
			if terminal {
				note(cmd, "stopping %s; Ctrl-C kills it", name)
			}
			go func() { tellEnd(ctx, cmd, "stopping "+name, own.Stop(ctx, -1)) }()
		case n > 2 && inst.Away():
			leave()
			return
		default:
			if terminal && inst.Away() {
				note(cmd, "killing %s; Ctrl-C leaves it", name)
			}
			go func() { tellEnd(ctx, cmd, "killing "+name, own.Kill(ctx)) }()
		}
	}
}

// tellEnd says why an instance that is being watched could not be ended.
func tellEnd(ctx context.Context, cmd *cobra.Command, doing string, err error) {
	if err == nil || ctx.Err() != nil || errors.Is(err, instance.ErrNotRunning) || errors.Is(err, instance.ErrNotFound) {
		return
	}
	note(cmd, "%s: %v", doing, err)
}

// terminal connects this process's terminal with the guest's. The function
// that it returns puts the terminal back as it was, and may be called twice.
func (a *app) terminal(cmd *cobra.Command, inst *instance.Instance, stdin bool) (restore func()) {
	restore = func() {}
	fd := int(os.Stdin.Fd())
	if inst.Config.Machine.Guest.TTY && stdin && term.IsTerminal(fd) {
		if old, err := term.MakeRaw(fd); err == nil {
			restore = func() { term.Restore(fd, old) }
		}
		go resizes(cmd.Context(), inst, fd)
	}
	if stdin {
		go inst.Input(cmd.Context(), os.Stdin) // an application that ended needs no more input
	}
	return restore
}

func isPath(ref string) bool {
	return strings.HasPrefix(ref, "./") || strings.HasPrefix(ref, "../") || filepath.IsAbs(ref)
}
