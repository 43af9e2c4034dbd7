// Capstan builds and runs applications as virtual machines.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"capstan/guest"
	"capstan/internal/hypervisor"
	"capstan/internal/instance"
)

// version is set by the build.
var version = "devel"

func main() {
	if len(os.Args) == 3 && os.Args[1] == instance.SuperviseCommand {
		os.Exit(supervise(os.Args[2]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	a := &app{}
	os.Exit(execute(ctx, a, newRoot(a), os.Args[1:]))
}

// supervise is the whole life of a supervisor process. It takes nothing from
// flags: what it needs stands in its instance's directory and settings.
func supervise(dir string) int {
	signal.Ignore(syscall.SIGPIPE) // whoever started this may be gone
	attached := make(chan struct{})
	go func() { // ends with the process
		defer close(attached)
		io.Copy(io.Discard, os.Stdin)
	}()
	said := false
	say := func(r instance.Ready) {
		if !said {
			said = true
			instance.Say(r)
		}
	}
	os.Setenv("CAPSTAN_ROOT", filepath.Dir(filepath.Dir(dir))) // whatever --root was
	set, err := loadSettings(nil)
	if err == nil {
		err = instance.Supervise(context.Background(), dir, instance.Boot{
			Driver: func(platform string) (hypervisor.Driver, error) { return driverOf(set, platform) },
			Guest: func() (kernel, decompressed string, err error) {
				files, err := guest.Locate(set.Root)
				return files.Kernel, files.Decompressed, err
			},
			Log: set.Log, Attached: attached,
		}, say)
	}
	if err != nil {
		say(instance.Failure(err))
		return exitFailure
	}
	return 0
}

// app is what commands share: the settings, read once flags are known, and the
// remote platforms' drivers, once one is asked for.
type app struct {
	settings settings
	away     []hypervisor.Remote
	waits    waits // what those tell while they are waited for
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "capstan",
		Short:         "Build and run applications as virtual machines",
		Long:          "Capstan builds and runs applications as virtual machines: one image, one\napplication, one VM, with the commands that Docker's users know.",
		Example:       "  capstan build\n  capstan run -d --name cache -p 6379:6379 redis\n  capstan ps\n  capstan stop cache",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			a.settings, err = loadSettings(cmd.Root().PersistentFlags())
			a.settings.progress = a.waits.Update
			return err
		},
	}
	root.PersistentFlags().String("root", "", "folder of images and instances (default $CAPSTAN_ROOT, else ~/.capstan)")
	root.PersistentFlags().Bool("offline", false, "look nothing up outside: images come from the local store alone")
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Instances:"},
		&cobra.Group{ID: "image", Title: "Images:"},
		&cobra.Group{ID: "more", Title: "More:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", newRun(a), newPs(a), newLogs(a), newStop(a), newKill(a), newStart(a), newRestart(a), newScale(a), newRm(a), newWait(a), newStats(a), newVolume(a))
	add("image", newBuild(a), newCompose(a), newPackage(a), newImages(a), newPull(a), newPush(a), newSign(a), newSearch(a), newRmi(a), newTag(a), newSave(a), newLoad(a), newImport(a), newExport(a), newLogin(a), newLogout(a), newPrune(a))
	add("more", newInspect(a), newInfo(a), newDoctor(a), newVersion(a))
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "Flags.FlagUsages ", "Flags.FlagUsagesWrapped 80 "))
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID("more")
	root.SetCompletionCommandGroupID("more")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.RegisterFlagCompletionFunc("root", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Example = "  capstan completion bash"
		completion.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() } // so that other shells are an error
	}
	return root
}

// newHelp is cobra's command, but that an unknown word is an error.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Show what a command does",
		Example: "  capstan help run",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return usage(cmd, fmt.Errorf("%s has no command %q", about.CommandPath(), rest[0]))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if about, _, err := cmd.Root().Find(args); err == nil {
				for _, c := range about.Commands() {
					if c.IsAvailableCommand() && strings.HasPrefix(c.Name(), to) {
						names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// execute runs a command line and returns the exit status.
func execute(ctx context.Context, a *app, root *cobra.Command, args []string) int {
	defer a.close()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	return report(os.Stderr, cmd, err)
}

// note prints a line for people.
func note(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), "capstan: "+format+"\n", args...)
}
