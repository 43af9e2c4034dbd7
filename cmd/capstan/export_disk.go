package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/internal/image/disk/export"
	"capstan/internal/image/opaque"
	"capstan/internal/repo"
)

// exportSystem writes the disk of an image that has a system of its own. A size
// that is 0 is the disk's.
func (a *app) exportSystem(ctx context.Context, cmd *cobra.Command, f exportFlags, bytes int64, store *repo.Store, img v1.Image, entry repo.Entry) error {
	format := export.Format(f.format)
	if format == export.OVA || f.format == xenFormat {
		return &hinted{fmt.Errorf("--format %s is a machine around an image of Linux, and %s is a disk with a system of its own", f.format, entry.Name),
			"--format vmdk-stream or another one of a disk, and a machine that boots by " + strings.ToUpper(firmwareOf(img))}
	}
	d, file, err := opaque.Open(ctx, store, img, entry.Digest)
	if err != nil {
		return err
	}
	defer file.Close()
	if bytes > 0 && bytes < d.Size {
		return &hinted{fmt.Errorf("a disk of %d MiB is too small: the image's has %d MiB", bytes>>20, (d.Size+1<<20-1)>>20), fmt.Sprintf("--disk %dM or more", (d.Size+1<<20-1)>>20)}
	}
	unit := format.Unit()
	bytes = (max(bytes, d.Size) + unit - 1) / unit * unit
	if most := format.MaxSize(); bytes > most {
		return &hinted{fmt.Errorf("a disk in format %s has %d GiB at most, and the image's has %d", f.format, most>>30, d.Size>>30), "another format"}
	}
	progress := newProgress(cmd, false)
	defer progress.close()
	written := func(done int64) { progress.Update("writing", done, d.Size) }
	written(0)
	to := export.Disk{
		Size: bytes, Name: filepath.Base(f.output), ID: diskID(entry.Digest, bytes),
		Content: func(ctx context.Context, w io.WriterAt) error { return opaque.Copy(ctx, w, d, written) },
	}
	if err := writeDisk(ctx, f.output, format, to); err != nil {
		return full(f.output, err)
	}
	progress.close() // or its last bars take the place of what follows
	note(cmd, "exported %s to %s, a disk of %s, which boots by %s", entry.Name, f.output, size(bytes), strings.ToUpper(firmwareOf(img)))
	return nil
}

// firmwareOf is what boots a disk image.
func firmwareOf(img v1.Image) string {
	config, _, err := opaque.Read(img)
	if err != nil {
		return "its own firmware"
	}
	return config.Firmware
}

// diskID is a UUID of version 8 (RFC 9562) for the disk of an image.
func diskID(digest v1.Hash, bytes int64) (id [16]byte) {
	sum := sha256.Sum256(fmt.Appendf(nil, "capstan disk image %s %d", digest, bytes))
	copy(id[:], sum[:])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return id
}
