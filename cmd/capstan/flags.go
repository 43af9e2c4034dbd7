package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"capstan/internal/capstanfile"
)

// flagError makes a sentence of what the flags' parser complains of.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	var empty *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		return usage(cmd, unknownFlag(cmd, unknown))
	case errors.As(err, &value):
		f := value.GetFlag()
		return usage(cmd, oldValue(cmd, f, value.GetValue(),
			fmt.Errorf("%s %s: expected %s", shortest(f), value.GetValue(), kinds[f.Value.Type()])))
	case errors.As(err, &empty):
		return usage(cmd, fmt.Errorf("%s needs a value", shortest(empty.GetFlag())))
	}
	return usage(cmd, err)
}

// kinds are the types of pflag's values, in words, but for those of which any
// text is one.
var kinds = map[string]string{
	"int":    "a whole number",
	"bool":   "true or false",
	"policy": "missing, always or never",
}

// shortest is a flag as most people type it.
func shortest(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}

// unknownFlag says what a flag that there is not might have been.
func unknownFlag(cmd *cobra.Command, e *pflag.NotExistError) error {
	if e.GetSpecifiedShortnames() != "" {
		flag := "-" + e.GetSpecifiedName()
		return oldFlag(cmd, flag, fmt.Errorf("%s has no flag %s", cmd.CommandPath(), flag))
	}
	flag := "--" + e.GetSpecifiedName()
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	text := fmt.Sprintf("%s has no flag %s", cmd.CommandPath(), flag)
	if better := capstanfile.Suggest(e.GetSpecifiedName(), names); better != "" {
		text += fmt.Sprintf(" (did you mean --%s?)", better)
	}
	return oldFlag(cmd, flag, errors.New(text))
}
