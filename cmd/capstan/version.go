package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"capstan/guest"
)

// versions are what version shows.
type versions struct {
	Capstan string `json:"capstan"`
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersion(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the versions of capstan and of its guest's kernel",
		Example: "  capstan version\n  capstan version --format json",
		Args:    none,
	}
	format := cmd.Flags().String("format", "text", "text, json or a Go template")
	takesOneOf(cmd, "format", "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := versions{Capstan: version, Kernel: "none", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
		if info, err := guest.Record(a.settings.Root); err == nil {
			v.Kernel = info.Kernel
		}
		switch *format {
		case "text":
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "capstan %s %s/%s, guest kernel %s\n", v.Capstan, v.OS, v.Arch, v.Kernel)
			return err
		case "json":
			return printJSON(cmd.OutOrStdout(), v)
		default:
			return printTemplate(cmd, *format, []versions{v})
		}
	}
	return cmd
}
