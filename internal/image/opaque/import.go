package opaque

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"capstan/internal/image/disk"
	"capstan/internal/repo"
)

// Options say what to note of a disk, and how it wants to be run.
type Options struct {
	Version, Description, Build string
	Created                     time.Time
	// Firmware and Bus are the config's; "" is what the disk looks like, and
	// virtio.
	Firmware, Bus string
	// Limit bounds what is read, unpacked, in bytes; 0 is DefaultLimit.
	Limit int64
}

// DefaultLimit is more than any disk of old Capstan's had.
const DefaultLimit = 256 << 30

// maxWindow bounds the memory that unpacking takes.
const maxWindow = 128 << 20

// Error is a disk that cannot be an image, and the way out.
type Error struct{ text, hint string }

func (e *Error) Error() string { return e.text }

// Hint is the way out.
func (e *Error) Hint() string { return e.hint }

// Import puts the disk that r reads into the store. A disk that is packed by
// gzip or zstd is unpacked. Nothing of it is to be seen in the store if it
// fails.
func Import(ctx context.Context, store *repo.Store, name repo.Name, r io.Reader, o Options) (repo.Entry, Config, error) {
	in, done, err := unpacked(r, o.Limit)
	if err != nil {
		return repo.Entry{}, Config{}, err
	}
	defer done()
	w, err := store.LayerWriter(ctx)
	if err != nil {
		return repo.Entry{}, Config{}, err
	}
	defer w.Close()
	head, err := in.Peek(disk.HeadSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return repo.Entry{}, Config{}, fmt.Errorf("reading the disk: %w", err)
	}
	if len(head) == 0 {
		return repo.Entry{}, Config{}, &Error{"the disk is empty", "the file of a disk that boots"}
	}
	format, err := disk.Recognise(head)
	if err != nil {
		return repo.Entry{}, Config{}, err
	}
	var layer v1.Layer
	var found examined
	if format == disk.Raw {
		layer, found, err = packRaw(w, in, bytes.Clone(head))
	} else {
		layer, found, err = copyDisk(w, in)
	}
	if err != nil {
		return repo.Entry{}, Config{}, err
	}
	config, err := found.config(o)
	if err != nil {
		return repo.Entry{}, config, err
	}
	img, err := assemble(config, o, layer)
	if err != nil {
		return repo.Entry{}, config, fmt.Errorf("importing %s: %w", name, err)
	}
	entry, err := store.Put(ctx, name, img)
	return entry, config, err
}

// unpacked reads what gzip or zstd has packed in r, or r itself; done gives
// back what that took.
func unpacked(r io.Reader, limit int64) (in *bufio.Reader, done func(), err error) {
	outer := bufio.NewReaderSize(r, 1<<20)
	done = func() {}
	magic, err := outer.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, done, fmt.Errorf("reading the disk: %w", err)
	}
	var inner io.Reader = outer
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		if inner, err = gzip.NewReader(outer); err != nil {
			return nil, done, fmt.Errorf("unpacking the disk: %w", err)
		}
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(outer, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, done, fmt.Errorf("unpacking the disk: %w", err)
		}
		inner, done = z, z.Close
	}
	if limit == 0 {
		limit = DefaultLimit
	}
	return bufio.NewReaderSize(&bounded{inner, limit, limit}, disk.HeadSize), done, nil
}

// bounded fails where there is more to read than the limit.
type bounded struct {
	r           io.Reader
	left, limit int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, &Error{fmt.Sprintf("the disk has more than %d GiB, which is the bound", b.limit>>30), "a smaller disk"}
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return b.Read(nil)
	}
	return n, err
}

// examined is a disk whose content was looked at.
type examined struct {
	format disk.Format
	size   int64
	boot   disk.Boot
	head   []byte // disk.OSvHead bytes, of an OSv disk
}

// copyDisk stores a disk as it is.
func copyDisk(w *repo.LayerWriter, in io.Reader) (v1.Layer, examined, error) {
	if _, err := io.Copy(w, in); err != nil {
		return nil, examined{}, fmt.Errorf("copying the disk: %w", err)
	}
	layer, err := w.Commit()
	if err != nil {
		return nil, examined{}, err
	}
	size, err := layer.Size()
	if err != nil {
		return nil, examined{}, err
	}
	r, err := layer.Compressed()
	if err != nil {
		return nil, examined{}, err
	}
	defer r.Close()
	file, ok := r.(io.ReaderAt)
	if !ok {
		return nil, examined{}, errors.New("copying the disk: the copy cannot be read")
	}
	d, err := disk.Open(file, size)
	if err != nil {
		return nil, examined{}, err
	}
	if err := d.Check(); err != nil {
		return nil, examined{}, err
	}
	found, err := examine(d)
	return layer, found, err
}

func examine(d *disk.Disk) (examined, error) {
	found := examined{format: d.Format, size: d.Size}
	var err error
	if found.boot, err = d.ReadBoot(); err != nil || !found.boot.OSv {
		return found, err
	}
	found.head = make([]byte, disk.OSvHead)
	if n, err := d.ReadAt(found.head, 0); err != nil && !(errors.Is(err, io.EOF) && n >= 1024) {
		return found, fmt.Errorf("reading the command line: %w", err)
	}
	return found, nil
}

// packRaw stores a raw disk, packed: holes cost next to nothing. What there is
// to see of it stands in its first bytes, and in its last whether it is a
// fixed VHD.
func packRaw(w *repo.LayerWriter, in io.Reader, head []byte) (v1.Layer, examined, error) {
	pack, err := newPacker(w)
	if err != nil {
		return nil, examined{}, fmt.Errorf("packing the disk: %w", err)
	}
	ends := &tail{}
	size, err := copyPieces(io.MultiWriter(pack, ends), in)
	if err = errors.Join(err, pack.Close()); err != nil {
		return nil, examined{}, fmt.Errorf("packing the disk: %w", err)
	}
	layer, err := w.Commit()
	if err != nil {
		return nil, examined{}, err
	}
	d, err := disk.Open(&beginning{head, size}, size)
	if err != nil {
		return nil, examined{}, err
	}
	found, err := examine(d)
	found.size = (disk.RawSizeOf(ends.last(), size) + 511) &^ 511
	return layer, found, err
}

// beginning is a file of which only the beginning is at hand: the rest reads
// as zeros.
type beginning struct {
	head []byte
	size int64
}

func (b *beginning) ReadAt(p []byte, at int64) (int, error) {
	if at >= b.size {
		return 0, io.EOF
	}
	clear(p)
	if at < int64(len(b.head)) {
		copy(p, b.head[at:])
	}
	if left := b.size - at; left < int64(len(p)) {
		return int(left), io.EOF
	}
	return len(p), nil
}

// tail keeps the last 512 bytes of what is written to it.
type tail struct{ held []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.held = append(t.held, p[max(0, len(p)-512):]...)
	t.held = append(t.held[:0], t.last()...)
	return len(p), nil
}

func (t *tail) last() []byte { return t.held[max(0, len(t.held)-512):] }

// config is what an image says of the disk.
func (e examined) config(o Options) (Config, error) {
	c := Config{
		Created: o.Created.UTC(), Architecture: "amd64", Format: e.format, Size: e.size,
		Firmware: o.Firmware, Bus: o.Bus, OSv: e.boot.OSv,
	}
	if c.Firmware == "" {
		c.Firmware = e.boot.Firmware()
	}
	if c.Bus == "" {
		c.Bus = "virtio"
	}
	if c.Firmware == "" {
		return c, &Error{"this is no disk that boots: it has neither a boot sector nor an EFI system partition",
			"capstan build --from FILE NAME, where it is a program or a tar"}
	}
	if e.boot.OSv {
		c.Cmdline = disk.OSvLine(e.head)
	}
	return c, nil
}

// assemble makes the image of a config and a layer.
func assemble(c Config, o Options, layer v1.Layer) (v1.Image, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	configDigest, configSize, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	digest, err := layer.Digest()
	if err != nil {
		return nil, err
	}
	size, err := layer.Size()
	if err != nil {
		return nil, err
	}
	notes := map[string]string{}
	note := func(key, value string) {
		if value != "" {
			notes[key] = value
		}
	}
	note(noteVersion, o.Version)
	note(noteDescription, o.Description)
	note(noteBuild, o.Build)
	if !o.Created.IsZero() {
		note(noteCreated, o.Created.UTC().Format(time.RFC3339))
	}
	return newArtifact(v1.Manifest{
		SchemaVersion: 2, MediaType: manifestType, ArtifactType: ArtifactType, Annotations: notes,
		Config: v1.Descriptor{MediaType: repo.DiskConfigType, Digest: configDigest, Size: configSize},
		Layers: []v1.Descriptor{{MediaType: layerType(c.Format), Digest: digest, Size: size}},
	}, config, layer)
}
