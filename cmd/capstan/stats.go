package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"capstan/guest/api"
)

// statsRow is one running instance's counters.
type statsRow struct {
	Name string `json:"name"`
	api.Stats
}

func newStats(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "stats [NAME...]",
		Short:             "Show what running instances use, as their kernels count it",
		Example:           "  capstan stats\n  capstan stats --format json cache",
		ValidArgsFunction: a.completeRunning,
	}
	format := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			list, err := a.instances().List()
			if err != nil {
				return err
			}
			for _, i := range list {
				if i.State.Live() && !i.Away() {
					args = append(args, i.Config.Name)
				}
			}
		}
		var rows []statsRow
		err := each(args, func(name string) error {
			i, err := a.instances().Get(name)
			if err != nil {
				return err
			}
			stats, err := i.Stats(cmd.Context())
			if err != nil {
				return err
			}
			rows = append(rows, statsRow{name, stats})
			return nil
		})
		if err != nil {
			return err
		}
		return table[statsRow]{
			header: []string{"NAME", "CPU TIME", "CPUS", "MEMORY", "NET RX/TX", "BLOCK READ/WRITE", "PROCESSES"},
			cells: func(r statsRow) []string {
				return []string{
					r.Name, r.CPUTime.Round(time.Millisecond).String(), fmt.Sprint(r.CPUs),
					size(r.MemoryUsed) + " of " + size(r.MemoryTotal),
					size(r.NetRx) + " / " + size(r.NetTx), size(r.BlockRead) + " / " + size(r.BlockWrite),
					fmt.Sprint(r.Processes),
				}
			},
		}.print(cmd, *format, rows)
	}
	return cmd
}
