package image_test

import (
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/image"
	"capstan/internal/image/erofs"
	"capstan/internal/image/erofs/erofstest"
	"capstan/internal/image/imagetest"
)

// FuzzFlatten: whatever layers hold is refused, or gives an image that can be
// read to its end; its size is bounded by what the options allow.
func FuzzFlatten(f *testing.F) {
	for seed := range uint64(8) {
		var lower []byte
		for _, entries := range imagetest.Stack(seed) {
			data := imagetest.Tar(f, entries[:min(len(entries), 4)]...)
			if len(data) < 20000 {
				f.Add(lower, data)
				lower = data
			}
		}
	}
	opts := erofs.Options{MaxEntries: 200, MaxContent: 1 << 20, MaxMetadata: 1 << 18, MaxXattrs: 1 << 12, MaxDepth: 20}
	out, err := os.Create(filepath.Join(f.TempDir(), "root"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { out.Close() })
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		imagetest.FixTar(lower)
		imagetest.FixTar(upper)
		img := bare{imagetest.Plain(lower), imagetest.Plain(upper)}
		if err := out.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if err := image.FlattenWith(t.Context(), img, out, opts); err != nil {
			return
		}
		info, err := out.Stat()
		if err != nil {
			t.Fatal(err)
		}
		// Each entry at worst wastes a block for attributes and one for data.
		if limit := opts.MaxContent + opts.MaxEntries*4*4096; info.Size() > limit {
			t.Fatalf("the image has %d bytes, more than %d", info.Size(), limit)
		}
		fsys, err := erofs.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := erofstest.FromImage(fsys); err != nil {
			t.Fatal(err)
		}
	})
}

// bare is an image that has no more than Flatten needs: making a whole one
// takes longer than flattening it.
type bare []v1.Layer

func (b bare) Layers() ([]v1.Layer, error) { return b, nil }

func (b bare) ConfigFile() (*v1.ConfigFile, error) {
	var config v1.ConfigFile
	for _, layer := range b {
		id, err := layer.DiffID()
		if err != nil {
			return nil, err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, id)
	}
	return &config, nil
}
