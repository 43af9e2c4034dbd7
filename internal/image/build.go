package image

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"capstan/internal/capstanfile"
	"capstan/internal/repo"
)

// Recipe is one image to build: a layer upon a base, and changes to the
// base's config.
type Recipe struct {
	// Base is nil to build on nothing.
	Base v1.Image
	// Layer writes the one layer that is added, as a tar stream.
	Layer func(ctx context.Context, w io.Writer) error
	// Change adapts the config.
	Change func(*v1.ConfigFile)
	Arch   string
	// Comment is the history's line: the command that built it.
	Comment string
}

// Build makes an image and puts it into the store under name. Nothing of it
// is to be seen in the store if it fails.
func Build(ctx context.Context, store *repo.Store, name repo.Name, recipe Recipe) (repo.Entry, error) {
	w, err := store.LayerWriter(ctx)
	if err != nil {
		return repo.Entry{}, err
	}
	defer w.Close()
	if err := recipe.Layer(ctx, w); err != nil {
		return repo.Entry{}, err
	}
	layer, err := w.Commit()
	if err != nil {
		return repo.Entry{}, err
	}
	img, err := recipe.assemble(layer)
	if err != nil {
		return repo.Entry{}, fmt.Errorf("building %s: %w", name, err)
	}
	return store.Put(ctx, name, img)
}

func (r Recipe) assemble(layer v1.Layer) (v1.Image, error) {
	img := r.Base
	if img == nil {
		img = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	// The time is fixed: equal inputs give equal images.
	history := v1.History{CreatedBy: r.Comment, Created: v1.Time{Time: time.Unix(0, 0).UTC()}}
	img, err := mutate.Append(img, mutate.Addendum{Layer: layer, History: history, MediaType: types.OCIUncompressedLayer})
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", r.Arch
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	r.Change(file)
	return mutate.ConfigFile(img, file)
}

// Configure returns the change that a Capstanfile makes to a base's config.
func Configure(f *capstanfile.File) func(*v1.ConfigFile) {
	return func(file *v1.ConfigFile) {
		c := &file.Config
		if f.Cmdline != nil {
			c.Entrypoint, c.Cmd = nil, f.Cmdline
		}
		c.Env = Config{Env: c.Env}.Environ(f.Env)
		if f.Workdir != "" {
			c.WorkingDir = f.Workdir
		}
		if f.User != "" {
			c.User = f.User
		}
		c.ExposedPorts, c.Volumes, c.Labels = own(c.ExposedPorts), own(c.Volumes), own(c.Labels)
		for _, ports := range f.Expose {
			for _, port := range ports.Ports() {
				c.ExposedPorts[port] = struct{}{}
			}
		}
		for _, volume := range f.Volumes {
			c.Volumes[volume] = struct{}{}
		}
		maps.Copy(c.Labels, f.Labels)
		if f.Memory > 0 {
			c.Labels[LabelMemory] = strconv.FormatInt(f.Memory, 10)
		}
		if f.CPUs > 0 {
			c.Labels[LabelCPUs] = strconv.Itoa(f.CPUs)
		}
	}
}

// own returns a copy that may be written to.
func own[V any](m map[string]V) map[string]V {
	out := make(map[string]V, len(m))
	maps.Copy(out, m)
	return out
}
