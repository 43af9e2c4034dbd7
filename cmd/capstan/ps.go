package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capstan/internal/instance"
)

// psRow is an instance as --format shows it.
type psRow struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Image    string            `json:"image"`
	Platform string            `json:"platform"`
	Status   instance.Status   `json:"status"`
	ExitCode int               `json:"exit_code"`
	Reason   string            `json:"reason,omitempty"`
	Created  time.Time         `json:"created"`
	Started  time.Time         `json:"started,omitzero"`
	Finished time.Time         `json:"finished,omitzero"`
	Ports    []string          `json:"ports"`
	Address  string            `json:"address,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Of groups: how many machines are wanted, and how many are on.
	Replicas int `json:"replicas,omitempty"`
	On       int `json:"on,omitempty"`
}

func newPs(a *app) *cobra.Command {
	var all, quiet, away bool
	cmd := &cobra.Command{
		Use:     "ps",
		Aliases: []string{"instances", "I", "list"},
		Short:   "List instances",
		Example: "  capstan ps\n  capstan ps -a --format json\n  capstan ps --format '{{.Name}} {{.Status}}'",
		Args:    none,
	}
	format := formatFlag(cmd)
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that are not running")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	cmd.Flags().BoolVar(&away, "all-platforms", false, "in their place, all that capstan has made on clouds, whoever has: machines, disks, images")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if away {
			return a.printAway(cmd, *format, quiet)
		}
		list, err := a.instances().List()
		if err != nil {
			return err
		}
		var rows []psRow
		for _, i := range instance.Survey(cmd.Context(), list) {
			if all || i.State.Live() || i.State.Status == instance.Unknown {
				rows = append(rows, psRowOf(i))
			}
		}
		if quiet {
			*format = "{{.Name}}"
		}
		return table[psRow]{
			header: []string{"NAME", "IMAGE", "STATUS", "CREATED", "PORTS"},
			cells: func(r psRow) []string {
				return []string{r.Name, r.Image, r.summary(), ago(r.Created), firstOf(strings.Join(r.Ports, ", "), r.Address)}
			},
		}.print(cmd, *format, rows)
	}
	return cmd
}

func psRowOf(i *instance.Instance) psRow {
	r := psRow{
		ID: i.Config.ID, Name: i.Config.Name, Image: i.Config.Image, Platform: i.Config.Platform,
		Status: i.State.Status, ExitCode: i.State.Exit.Status, Reason: i.State.Reason,
		Created: i.Config.Created, Started: i.State.Started, Finished: i.State.Finished,
		Ports: []string{}, Address: i.State.Address, Labels: i.Config.Labels,
	}
	if i.Group() {
		r.Replicas, r.On = i.State.Replicas, i.State.On()
	}
	for _, p := range i.State.Ports {
		r.Ports = append(r.Ports, p.String())
	}
	return r
}

// reasonWidth is how much of a reason ps shows; inspect shows all.
const reasonWidth = 40

func (r psRow) summary() string {
	switch {
	case r.Replicas > 0 && r.Status == instance.Running:
		s := fmt.Sprintf("%d of %d running", r.On, r.Replicas)
		if r.Reason != "" {
			s += ": " + brief(r.Reason, reasonWidth)
		}
		return s
	case r.Replicas > 0 && r.Status == instance.Exited:
		return "stopped " + ago(r.Finished)
	}
	switch r.Status {
	case instance.Running:
		return "running for " + span(time.Since(r.Started))
	case instance.Exited:
		s := fmt.Sprintf("exited (%d) %s", r.ExitCode, ago(r.Finished))
		if r.Reason != "" {
			s += ": " + brief(r.Reason, reasonWidth)
		}
		return s
	case instance.Dead, instance.Unknown:
		return string(r.Status) + ": " + brief(r.Reason, reasonWidth)
	default:
		return string(r.Status)
	}
}
