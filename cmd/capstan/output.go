package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/spf13/cobra"
)

// table is how one kind of row is shown.
type table[T any] struct {
	header []string
	cells  func(T) []string
}

// formatFlag adds --format to a command.
func formatFlag(cmd *cobra.Command) *string {
	format := cmd.Flags().String("format", "table", "table, json, or a Go template for each row, such as '{{.Name}}'")
	takesOneOf(cmd, "format", "table", "json")
	return format
}

// print writes rows as the user asked for: JSON is one array.
func (t table[T]) print(cmd *cobra.Command, format string, rows []T) error {
	w := cmd.OutOrStdout()
	switch format {
	case "json":
		if rows == nil {
			rows = []T{}
		}
		return printJSON(w, rows)
	case "table":
		return t.align(w, rows)
	default:
		return printTemplate(cmd, format, rows)
	}
}

// align writes rows in columns, without blanks at the ends of lines. What is in
// them may come from anybody.
func (t table[T]) align(w io.Writer, rows []T) error {
	var text bytes.Buffer
	tab := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	if len(t.header) > 0 {
		fmt.Fprintln(tab, strings.Join(t.header, "\t"))
	}
	for _, row := range rows {
		fmt.Fprintln(tab, strings.Join(printables(t.cells(row)), "\t"))
	}
	tab.Flush() // to memory
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// brief shortens a text to what fits into a column.
func brief(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printTemplate[T any](cmd *cobra.Command, format string, rows []T) error {
	if !strings.Contains(format, "{{") {
		return usage(cmd, fmt.Errorf("--format %s: expected table, json or a Go template", format))
	}
	wrong := func(err error) error {
		text := err.Error() // "template: …: executing … at …: can't evaluate field Nope in type …"
		text, _, _ = strings.Cut(text[strings.LastIndex(text, ": ")+2:], " in type ")
		return usage(cmd, &hinted{fmt.Errorf("--format %s: %s", format, text), "--format json shows what there is; a field is {{.Name}}"})
	}
	t, err := template.New("--format").Funcs(template.FuncMap{"json": toJSON}).Parse(format)
	if err != nil {
		return wrong(err)
	}
	for _, row := range rows {
		if err := t.Execute(cmd.OutOrStdout(), row); err != nil {
			return wrong(err)
		}
		fmt.Fprintln(cmd.OutOrStdout())
	}
	return nil
}

func toJSON(v any) (string, error) {
	doc, err := json.Marshal(v)
	return string(doc), err
}

// size writes bytes as people read them, in powers of 1024.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}
	f, u := float64(n)/1024, 0
	for f >= 1023.95 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	return strings.Replace(fmt.Sprintf("%.1f%c", f, units[u]), ".0", "", 1)
}

// ago writes a time as the span since then.
func ago(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "-"
	}
	return span(time.Since(t)) + " ago"
}

func span(d time.Duration) string {
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}} {
		if n := int(d / u.unit); n == 1 {
			return "1 " + u.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "less than a second"
}

// atLeast, exactly, atMost and none check how many arguments there are.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usage(cmd, fmt.Errorf("%s needs %s", cmd.CommandPath(), what))
		}
		return nil
	}
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(cmd, fmt.Errorf("%s needs %s", cmd.CommandPath(), what))
		}
		return nil
	}
}

func atMost(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usage(cmd, fmt.Errorf("%s takes %s, and no %q", cmd.CommandPath(), what, args[n]))
		}
		return nil
	}
}

func none(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, fmt.Errorf("%s takes no arguments, and got %q", cmd.CommandPath(), args[0]))
	}
	return nil
}

// each does something to each of the named things, and goes on after errors.
func each(names []string, do func(string) error) error {
	var errs []error
	for _, name := range names {
		err := do(name)
		errs = append(errs, err)
		if errors.Is(err, context.Canceled) {
			break // it was interrupted: so are the others
		}
	}
	return errors.Join(errs...)
}
