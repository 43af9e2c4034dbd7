// Package opaque keeps disks that have a system of their own as images, and
// makes instances' disks of them. Such an image is an OCI artifact: a manifest
// with a config of this package's type and one layer, the disk as it is; a raw
// disk, which may be mostly holes, is the exception and packed. Nothing is
// known of what is on the disk, but whether it is OSv's.
package opaque

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"capstan/internal/image/disk"
	"capstan/internal/repo"
)

// ArtifactType is the manifest's.
const ArtifactType = "application/vnd.capstan.disk.v1"

// Annotations of the manifest: image-spec v1.1, annotations.md; the last is
// old Capstan's field "build", the command that made the disk.
const (
	noteCreated     = "org.opencontainers.image.created"
	noteVersion     = "org.opencontainers.image.version"
	noteDescription = "org.opencontainers.image.description"
	noteBuild       = "org.capstan.build"
)

// Config is what is known of a disk. Its first two fields are called as they
// are in an image's config.
type Config struct {
	Created      time.Time   `json:"created,omitzero"`
	Architecture string      `json:"architecture"`
	Format       disk.Format `json:"format"`
	Size         int64       `json:"size"`     // of the virtual disk, in bytes
	Firmware     string      `json:"firmware"` // "bios" or "uefi"
	Bus          string      `json:"bus"`      // "virtio", "ide" or "sata"
	// OSv: the disk has OSv's loader. Cmdline is the command line that it
	// was imported with.
	OSv     bool   `json:"osv,omitempty"`
	Cmdline string `json:"cmdline,omitempty"`
}

// Firmwares and Buses are what Config.Firmware and Config.Bus can be.
func Firmwares() []string { return []string{"bios", "uefi"} }
func Buses() []string     { return []string{"virtio", "ide", "sata"} }

// Read returns the config and the layer of a disk image. What an image from a
// registry says is checked.
func Read(img v1.Image) (Config, v1.Descriptor, error) {
	var c Config
	m, err := img.Manifest()
	if err != nil {
		return c, v1.Descriptor{}, fmt.Errorf("reading the disk image: %w", err)
	}
	if m.Config.MediaType != repo.DiskConfigType || len(m.Layers) != 1 {
		return c, v1.Descriptor{}, fmt.Errorf("reading the disk image: its manifest is not one of a disk")
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return c, v1.Descriptor{}, fmt.Errorf("reading the disk image: %w", err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, v1.Descriptor{}, fmt.Errorf("reading the disk image's config: %w", err)
	}
	layer := m.Layers[0]
	switch {
	case !slices.Contains(disk.Formats(), c.Format):
		err = fmt.Errorf("the format %.40q is not known", c.Format)
	case layer.MediaType != layerType(c.Format):
		err = fmt.Errorf("its layer is of type %.100q, and its disk of format %s", layer.MediaType, c.Format)
	case c.Size <= 0 || c.Size > disk.MaxSize:
		err = fmt.Errorf("its size, %d bytes, is out of bounds", c.Size)
	case !slices.Contains(Firmwares(), c.Firmware) || !slices.Contains(Buses(), c.Bus):
		err = fmt.Errorf("the firmware %.40q or the bus %.40q is not known", c.Firmware, c.Bus)
	}
	if err != nil {
		return c, v1.Descriptor{}, fmt.Errorf("reading the disk image's config: %w", err)
	}
	return c, layer, nil
}

// layerType is the layer's media type. Raw disks are packed.
func layerType(f disk.Format) types.MediaType {
	t := types.MediaType(repo.DiskLayerPrefix + string(f))
	if f == disk.Raw {
		t += "+zstd"
	}
	return t
}
