package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"capstan/internal/image"
	"capstan/internal/image/opaque"
	"capstan/internal/instance"
	"capstan/internal/repo"
)

// instanceView is an instance as inspect shows it.
type instanceView struct {
	Kind string `json:"kind"` // "instance"
	Dir  string `json:"dir"`
	instance.Config
	State instance.State `json:"state"`
}

// imageView is an image as inspect shows it.
type imageView struct {
	Kind    string       `json:"kind"` // "image" or "disk"
	Name    string       `json:"name"`
	Digest  string       `json:"digest"`
	Origin  *repo.Origin `json:"origin,omitempty"` // where it was pulled from
	Size    int64        `json:"size"`
	Created time.Time    `json:"created,omitzero"`
	Config  any          `json:"config"`
	Layers  []string     `json:"layers"`
	// Annotations are a disk image's.
	Annotations map[string]string `json:"annotations,omitempty"`
}

func newInspect(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "inspect NAME...",
		Short:             "Show all that is known of instances or images, as JSON",
		Example:           "  capstan inspect cache\n  capstan inspect --format '{{.State.Status}}' cache",
		Args:              atLeast(1, "the name of an instance or an image"),
		ValidArgsFunction: a.completeBoth,
	}
	format := cmd.Flags().String("format", "json", "json, or a Go template for each, such as '{{.Digest}}'")
	takesOneOf(cmd, "format", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var views []any
		err := each(args, func(name string) error {
			view, err := a.inspect(cmd.Context(), name)
			if err == nil {
				views = append(views, view)
			}
			return err
		})
		if err != nil {
			return err
		}
		if *format == "json" {
			return printJSON(cmd.OutOrStdout(), views)
		}
		return printTemplate(cmd, *format, views)
	}
	return cmd
}

// inspect finds an instance of the name, else an image.
func (a *app) inspect(ctx context.Context, name string) (any, error) {
	i, err := a.instances().Get(name)
	if err == nil {
		if len(instance.Survey(ctx, []*instance.Instance{i})) == 0 {
			return nil, fmt.Errorf("%s: %w", name, instance.ErrNotFound)
		}
		return instanceView{"instance", i.Dir, i.Config, i.State}, nil
	}
	if !errors.Is(err, instance.ErrNotFound) {
		return nil, err
	}
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	ref, err := a.stored(ctx, store, name)
	if err != nil {
		return nil, err
	}
	img, entry, err := store.Image(ctx, ref)
	var odd *repo.NameError
	if errors.Is(err, repo.ErrNotFound) || errors.As(err, &odd) {
		return nil, &hinted{errors.New(name + ": no such instance or image"), "capstan ps -a and capstan images list them"}
	}
	if err != nil {
		return nil, err
	}
	view := imageView{Kind: "image", Name: entry.Name.String(), Digest: entry.Digest.String(), Origin: entry.Origin, Size: entry.Size, Created: entry.Created}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if entry.Disk != "" {
		view.Kind, view.Annotations = "disk", manifest.Annotations
		view.Config, _, err = opaque.Read(img)
	} else {
		view.Config, err = image.ReadConfig(img)
	}
	if err != nil {
		return nil, err
	}
	for _, layer := range manifest.Layers {
		view.Layers = append(view.Layers, layer.Digest.String())
	}
	return view, nil
}
