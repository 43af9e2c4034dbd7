package opaque

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"capstan/internal/image/disk"
	"capstan/internal/image/disk/qcow2"
	"capstan/internal/repo"
)

// Files of an instance: the image's disk, and what the instance wrote.
const (
	BaseFile    = "base.disk"
	OverlayFile = "disk.qcow2"
)

// maxRest is how much may stand behind a raw disk.
const maxRest = 1024

// forged is the way out where an image is not what it says.
const forged = "another image: whoever made this one made it wrong"

// Prepare puts the disks of an instance into its directory: the image's, read
// only and shared with the store where that is possible, and an overlay that
// takes all writes. The digest is the store's entry's. What edit, if it is not
// nil, changes of the disk's first disk.OSvHead bytes goes into the overlay.
func Prepare(ctx context.Context, store *repo.Store, img v1.Image, digest v1.Hash, dir string, edit func(head []byte) error) error {
	config, layer, err := Read(img)
	if err != nil {
		return err
	}
	base := filepath.Join(dir, BaseFile)
	if config.Format == disk.Raw {
		err = store.Root(ctx, digest, base, func(ctx context.Context, f *os.File) error { return unpackRaw(ctx, img, config.Size, f) })
	} else {
		err = store.Link(ctx, digest, layer, base)
	}
	if err != nil {
		return err
	}
	overlay := qcow2.Overlay{Size: config.Size, Backing: BaseFile, Format: config.Format.QEMU()}
	if overlay.Head, err = look(base, config, edit); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, OverlayFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making the writable disk: %w", err)
	}
	return errors.Join(overlay.Write(f), f.Close())
}

// Open opens the disk of an image for reading. The digest is the store's
// entry's. The caller closes the file when the disk is no longer needed.
func Open(ctx context.Context, store *repo.Store, img v1.Image, digest v1.Hash) (*disk.Disk, io.Closer, error) {
	config, layer, err := Read(img)
	if err != nil {
		return nil, nil, err
	}
	var f *os.File
	if config.Format == disk.Raw {
		f, err = store.OpenRoot(ctx, digest, func(ctx context.Context, f *os.File) error { return unpackRaw(ctx, img, config.Size, f) })
	} else {
		f, err = store.OpenLink(ctx, digest, layer)
	}
	if err != nil {
		return nil, nil, err
	}
	d, err := check(f, config)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return d, f, nil
}

// Copy writes what is on a disk to w, but for zeros, from its first byte to its
// last. It tells how far it is.
func Copy(ctx context.Context, w io.WriterAt, d *disk.Disk, written func(done int64)) error {
	buf := make([]byte, piece)
	for at := int64(0); at < d.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		next, err := d.Next(at)
		if err != nil {
			return fmt.Errorf("copying the disk: %w", err)
		}
		if at = max(at, next-next%piece); next < d.Size {
			buf = buf[:min(piece, d.Size-at)]
			if _, err = d.ReadAt(buf, at); err == nil {
				err = writePiece(w, buf, at)
			}
			if err != nil {
				return fmt.Errorf("copying the disk: %w", err)
			}
			next = at + int64(len(buf))
		}
		at = next
		written(at)
	}
	return nil
}

// look checks the disk, which may come from a registry, before a hypervisor
// sees it, and returns its beginning if that is edited.
func look(path string, config Config, edit func([]byte) error) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the disk: %w", err)
	}
	defer f.Close()
	d, err := check(f, config)
	if err != nil || edit == nil {
		return nil, err
	}
	head := make([]byte, qcow2.HeadSize)
	if _, err := d.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return head, edit(head[:disk.OSvHead])
}

// check opens a disk, and says whether it is what the image says.
func check(f *os.File, config Config) (*disk.Disk, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening the disk: %w", err)
	}
	d, err := disk.Open(f, info.Size())
	if err != nil {
		return nil, err
	}
	if d.Format != config.Format || d.Size != config.Size {
		return nil, &Error{fmt.Sprintf("the image says that its disk is %s of %d bytes, and it is %s of %d", config.Format, config.Size, d.Format, d.Size), forged}
	}
	return d, d.Check()
}

// unpackRaw writes a packed raw disk to f, with holes for what is zero.
func unpackRaw(ctx context.Context, img v1.Image, size int64, f *os.File) (err error) {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("unpacking the disk: %w", err)
	}
	packed, err := layers[0].Compressed()
	if err != nil {
		return fmt.Errorf("unpacking the disk: %w", err)
	}
	// Closing verifies the digest.
	defer func() { err = errors.Join(err, packed.Close()) }()
	z, err := zstd.NewReader(packed, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("unpacking the disk: %w", err)
	}
	defer z.Close()
	if err := writeSparse(ctx, f, io.LimitReader(z, size)); err != nil {
		return fmt.Errorf("unpacking the disk: %w", err)
	}
	// A fixed VHD has its footer left, which is no part of the disk.
	if rest, err := io.CopyN(io.Discard, z, maxRest+1); rest > maxRest {
		return &Error{fmt.Sprintf("the image says that its disk has %d bytes, and it has more", size), forged}
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("unpacking the disk: %w", err)
	}
	if _, err := io.Copy(io.Discard, packed); err != nil {
		return fmt.Errorf("unpacking the disk: %w", err)
	}
	return f.Truncate(size)
}

// piece is what is written of a disk, or left out as zeros.
const piece = 64 << 10

var zeros [piece]byte

func writePiece(w io.WriterAt, p []byte, at int64) error {
	if bytes.Equal(p, zeros[:len(p)]) {
		return nil
	}
	_, err := w.WriteAt(p, at)
	return err
}

// writeSparse copies r to f but for pieces of zeros.
func writeSparse(ctx context.Context, f io.WriterAt, r io.Reader) error {
	buf := make([]byte, piece)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := fill(r, buf)
		if err := writePiece(f, buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until buf is full. Other than with io.ReadFull, the end of what
// there is to read is io.EOF wherever it is, and nothing else is.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}
