package repo

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
)

// Bounds on archives of images, against those that are made to be endless.
const (
	maxArchiveEntries = 20_000
	maxArchiveName    = 1024
	maxLinks          = 8
	maxLayer          = 1 << 40
	maxTrailing       = 16 << 20 // what tar writers pad with
)

// First bytes: RFC 1952, section 2.3.1, and RFC 8878, section 3.1.1.
const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// unpack reads the archive to its end.
func (a *archive) unpack(ctx context.Context, r io.Reader) error {
	in := bufio.NewReaderSize(&ctxReader{ctx: ctx, r: r}, 256<<10)
	var plain io.Reader = in
	if start, _ := in.Peek(len(gzipMagic)); string(start) == gzipMagic {
		z, err := gzip.NewReader(in)
		if err != nil {
			return badArchive("is damaged: %v", err)
		}
		plain = z
	}
	entries := tar.NewReader(plain)
	for n := 0; ; n++ {
		hdr, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n == maxArchiveEntries {
			err = badArchive("has more than %d entries", maxArchiveEntries)
		}
		if err == nil {
			err = a.entry(ctx, hdr, entries)
		}
		if err != nil {
			return readingArchive(err)
		}
	}
	n, err := io.Copy(io.Discard, io.LimitReader(plain, maxTrailing+1))
	if err == nil && n > maxTrailing {
		err = badArchive("goes on after its end")
	}
	return readingArchive(err)
}

// readingArchive says in words what the tar and gzip readers found.
func readingArchive(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badArchive("ends too early")
	case errors.Is(err, tar.ErrHeader):
		return badArchive("is no tar, or a damaged one")
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return badArchive("is damaged: %v", err)
	default:
		return err
	}
}

// entry takes up one entry. Nothing of its name reaches the host.
func (a *archive) entry(ctx context.Context, hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	if _, again := a.files[name]; again {
		return badArchive("has %s twice", clip(name))
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeReg:
		if sparse(hdr) {
			return badArchive("has a file with holes, %s", clip(name))
		}
		a.files[name], err = a.stage.take(ctx, content)
		return err
	case tar.TypeSymlink:
		to, err := cleanName(path.Join(path.Dir(name), hdr.Linkname))
		a.files[name] = archiveFile{link: to}
		return err
	case tar.TypeLink:
		to, err := cleanName(hdr.Linkname)
		a.files[name] = archiveFile{link: to}
		return err
	default:
		return badArchive("has %s, which is neither a file nor a link to one", clip(name))
	}
}

// sparse tells files with holes, which are larger than what the archive holds
// of them by any factor.
func sparse(hdr *tar.Header) bool {
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// cleanName returns a name in an archive as all of them are written here.
func cleanName(name string) (string, error) {
	if len(name) > maxArchiveName {
		return "", badArchive("has a name of more than %d bytes", maxArchiveName)
	}
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(name, 0) {
		return "", badArchive("has the name %q, which leads out of it", clip(name))
	}
	return clean, nil
}

// take copies r, of which nothing is known, to a file of the stage.
func (st *stage) take(ctx context.Context, r io.Reader) (file archiveFile, err error) {
	f, err := os.CreateTemp(st.dir, "blob-")
	if err != nil {
		return file, wrapWrite("writing", st.dir, err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	out := &errWriter{w: f}
	var start bytes.Buffer
	if _, err = io.CopyN(&start, r, int64(len(zstdMagic))); err != nil && !errors.Is(err, io.EOF) {
		return file, err
	}
	file.start = start.Bytes()
	in := io.MultiReader(bytes.NewReader(file.start), &ctxReader{ctx: ctx, r: r})
	file.size, err = io.CopyBuffer(io.MultiWriter(out, sum), in, make([]byte, 256<<10))
	switch {
	case out.err != nil:
		return file, wrapWrite("writing", f.Name(), out.err)
	case err != nil:
		return file, fmt.Errorf("reading the archive: %w", err)
	}
	file.path, file.digest = f.Name(), v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return file, finish(f)
}
