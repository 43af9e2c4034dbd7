package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands are all that a user can type, hidden ones left out.
func commands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			all = append(all, commands(c)...)
		}
	}
	return all
}

// TestHelp: each command's help says what it and its flags do, in lines that
// fit, with an example.
func TestHelp(t *testing.T) {
	w := newWorld(t)
	for _, c := range commands(newRoot(&app{})) {
		t.Run(c.CommandPath(), func(t *testing.T) {
			args := append(strings.Fields(c.CommandPath())[1:], "--help")
			r := w.capstan(args...)
			if r.status != 0 || r.stderr != "" || !strings.Contains(r.stdout, "Usage:\n") {
				t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
			}
			for line := range strings.Lines(r.stdout) {
				if n := len([]rune(line)); n > 91 {
					t.Errorf("%d columns: %s", n-1, line)
				}
			}
			if c.Short == "" || strings.HasSuffix(c.Short, ".") {
				t.Errorf("its short help is %q", c.Short)
			}
			generated := strings.Contains(c.CommandPath(), " completion") // cobra's own
			if c.Example == "" && !generated {
				t.Error("it has no example")
			}
			if strings.Contains(r.stdout, "(default -1)") {
				t.Error("it shows a default that nobody would give")
			}
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" {
					t.Errorf("--%s says nothing of itself", f.Name)
				}
			})
		})
	}
	if got, want := w.capstan(), w.capstan("--help"); got != want {
		t.Errorf("capstan alone printed %q, and --help %q", got.stdout, want.stdout)
	}
}

// TestExamples parses each example with the command that it is of. test/e2e
// runs them.
func TestExamples(t *testing.T) {
	for _, c := range commands(newRoot(&app{})) {
		for line := range strings.Lines(c.Example) {
			t.Run(strings.TrimSpace(line), func(t *testing.T) { checkExample(t, line) })
		}
	}
}

// checkExample fails the test if capstan would not take a command line: an
// unknown command, an unknown flag or value, too many or too few arguments.
func checkExample(t *testing.T, line string) {
	t.Helper()
	found := false
	for part := range strings.SplitSeq(line, "|") {
		words := shellWords(t, part)
		if len(words) == 0 || words[0] != "capstan" {
			continue
		}
		found = true
		cmd, args, err := newRoot(&app{}).Find(words[1:])
		if err == nil {
			err = cmd.ParseFlags(args)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(line), err)
		}
	}
	if !found {
		t.Errorf("%q runs no capstan", line)
	}
}

// shellWords splits a line as a shell does.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	line = strings.ReplaceAll(line, ">", " \\> ") // the example's file stays unwritten
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+strings.TrimSpace(line)).Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}
