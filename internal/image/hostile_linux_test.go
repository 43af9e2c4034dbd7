package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"capstan/internal/image"
	"capstan/internal/image/erofs"
	"capstan/internal/image/imagetest"
)

// flatten flattens to a file that is thrown away.
func flatten(t testing.TB, ctx context.Context, img v1.Image) error {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return image.Flatten(ctx, img, f)
}

// refused fails the test unless err wraps want, or is a LimitError where that
// is nil, and is one line.
func refused(t *testing.T, err, want error) {
	t.Helper()
	var limit *erofs.LimitError
	if err == nil || want != nil && !errors.Is(err, want) || want == nil && !errors.As(err, &limit) {
		t.Fatalf("error is %v, want %v", err, want)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than a line: %v", err)
	}
	t.Log(err)
}

// Entries that would lie outside of the root, or take what is not theirs.
func TestFlattenRefuses(t *testing.T) {
	xattr := func(name string, size int) imagetest.Entry {
		return with(file("a", ""), func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr." + name: strings.Repeat("x", size)}
		})
	}
	loop := []imagetest.Entry{symlink("l", "m"), symlink("m", "l/x")}
	var chain []imagetest.Entry // each link doubles the way
	for c := 'a'; c < 'z'; c++ {
		chain = append(chain, symlink(string(c), string(c+1)+"/../"+string(c+1)))
	}
	for name, c := range map[string]struct {
		entries []imagetest.Entry
		want    error // a LimitError if nil
	}{
		"file above the root":       {[]imagetest.Entry{file("../a", "")}, erofs.ErrName},
		"absolute, above the root":  {[]imagetest.Entry{file("/../../etc/passwd", "")}, erofs.ErrName},
		"dot dot within":            {[]imagetest.Entry{file("a/../b", "")}, erofs.ErrName},
		"directory above the root":  {[]imagetest.Entry{dir("a/../..")}, erofs.ErrName},
		"whiteout above the root":   {[]imagetest.Entry{file("../.wh.a", "")}, erofs.ErrName},
		"opaque above the root":     {[]imagetest.Entry{opaque("..")}, erofs.ErrName},
		"whiteout of its directory": {[]imagetest.Entry{file("a/.wh..", "")}, erofs.ErrName},
		"whiteout of its parent":    {[]imagetest.Entry{file("a/.wh...", "")}, erofs.ErrName},
		"whiteout of no name":       {[]imagetest.Entry{file("a/.wh.", "")}, erofs.ErrName},
		"hard link above the root":  {[]imagetest.Entry{link("a", "../../etc/passwd")}, erofs.ErrName},
		"hard link to the host":     {[]imagetest.Entry{link("a", "/etc/passwd")}, fs.ErrNotExist},
		"hard link through a link":  {[]imagetest.Entry{symlink("s", "../../../etc"), link("a", "s/passwd")}, fs.ErrNotExist},
		"hard link to a directory":  {[]imagetest.Entry{dir("d"), link("a", "d")}, erofs.ErrEntry},
		"hard link to the root":     {[]imagetest.Entry{link("a", "/")}, erofs.ErrName},
		"file in a loop":            {append(loop, file("l/a", "")), erofs.ErrLoop},
		"whiteout in a loop":        {append(loop, file("l/.wh.a", "")), erofs.ErrLoop},
		"hard link in a loop":       {append(loop, link("a", "l/a")), erofs.ErrLoop},
		"links that multiply":       {append(chain, file("a/x", "")), erofs.ErrLoop},
		"large attribute":           {[]imagetest.Entry{xattr("user.x", 1<<16+1)}, nil},
		"deep nesting":              {[]imagetest.Entry{file(strings.Repeat("d/", 600)+"f", "")}, nil},
		"long name":                 {[]imagetest.Entry{file(strings.Repeat("n", 256), "")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, flatten(t, t.Context(), layers(t, c.entries)), c.want)
		})
	}
}

// stream is a layer that is read from a function's reader, and of which
// nothing is known before.
type stream struct {
	v1.Layer
	open func() io.Reader
}

func (s stream) Compressed() (io.ReadCloser, error) { return io.NopCloser(s.open()), nil }

func (s stream) image(t *testing.T) v1.Image {
	s.Layer = static.NewLayer(nil, types.OCIUncompressedLayer)
	return imagetest.Image(t, s)
}

// repeated gives a tar of ever more entries, whose names name makes.
type repeated struct {
	header []byte
	name   func(b []byte)
	rest   []byte
}

func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		r.name(r.header[:100])
		imagetest.FixTar(r.header)
		r.rest = r.header
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// An endless layer is refused, and does not take more memory than it may.
func TestFlattenEndless(t *testing.T) {
	header := imagetest.Tar(t, with(file("0000000000", ""), func(h *tar.Header) { h.Format = tar.FormatUSTAR }))[:512]
	count := func(b []byte) {
		for i := 9; i >= 0; i-- {
			if b[i]++; b[i] <= '9' {
				return
			}
			b[i] = '0'
		}
	}
	t.Run("of entries", func(t *testing.T) { // an eighth of what is allowed, which takes a minute
		s := stream{open: func() io.Reader { return &repeated{header: header, name: count} }}
		f, err := os.Create(filepath.Join(t.TempDir(), "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		refused(t, image.FlattenWith(t.Context(), s.image(t), f, erofs.Options{MaxEntries: 1 << 18}), nil)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%d MB of the system's memory", m.Sys/1e6)
		if most := uint64(256 << 20); m.Sys > most {
			t.Errorf("%d bytes of memory, more than %d", m.Sys, most)
		}
	})
	t.Run("behind the end", func(t *testing.T) {
		end := imagetest.Tar(t)
		s := stream{open: func() io.Reader { return io.MultiReader(bytes.NewReader(end), zeros{}) }}
		err := flatten(t, t.Context(), s.image(t))
		if err == nil || !strings.Contains(err.Error(), "behind the archive's end") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("PAX header", func(t *testing.T) {
		data := imagetest.Tar(t, file("a", strings.Repeat("x", 2<<20)))
		data = data[bytes.Index(data, []byte("a\x00")):]
		data[156] = tar.TypeXHeader
		imagetest.FixTar(data)
		refused(t, flatten(t, t.Context(), imagetest.Image(t, imagetest.Plain(data))), tar.ErrFieldTooLong)
	})
	t.Run("sparse", func(t *testing.T) {
		data := hole(t, 1<<60)
		refused(t, flatten(t, t.Context(), imagetest.Image(t, imagetest.Plain(data))), nil)
	})
}

// hole is the tar of a file of the given size, which holds nothing else. The
// standard library writes no sparse files.
func hole(t *testing.T, size int64) []byte {
	t.Helper()
	e := file("a", fmt.Sprintf("1\n%d\n0\n", size))
	e.Content += strings.Repeat("\x00", 512-len(e.Content))
	e.PAXRecords = map[string]string{
		"XNU.sparse.major": "1", "XNU.sparse.minor": "0", "XNU.sparse.name": "a", "XNU.sparse.realsize": fmt.Sprint(size),
	}
	return bytes.ReplaceAll(imagetest.Tar(t, e), []byte("XNU.sparse"), []byte("GNU.sparse"))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A layer that is not what the config says.
func TestFlattenVerifies(t *testing.T) {
	data := imagetest.Tar(t, file("a", strings.Repeat("content", 1000)))
	img := imagetest.Image(t, imagetest.Gzip(t, data))
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	other := config.DeepCopy()
	other.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
	more := config.DeepCopy()
	more.RootFS.DiffIDs = append(more.RootFS.DiffIDs, more.RootFS.DiffIDs[0])

	t.Run("other digest", func(t *testing.T) {
		img, err := mutate.ConfigFile(img, other)
		if err != nil {
			t.Fatal(err)
		}
		var wrong *image.DiffIDError
		if err := flatten(t, t.Context(), img); !errors.As(err, &wrong) || wrong.Want != other.RootFS.DiffIDs[0] {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("more layers", func(t *testing.T) {
		img, err := mutate.ConfigFile(img, more)
		if err != nil {
			t.Fatal(err)
		}
		if err := flatten(t, t.Context(), img); err == nil || !strings.Contains(err.Error(), "1 layers") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		layer, err := partial.CompressedToLayer(cut{imagetest.Gzip(t, data)})
		if err != nil {
			t.Fatal(err)
		}
		if err := flatten(t, t.Context(), imagetest.Image(t, layer)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error is %v", err)
		}
	})
	// Reading 400 GiB of nothing takes no byte of the layer, but minutes.
	for name, data := range map[string][]byte{"cancelled": data, "cancelled in a hole": hole(t, 400<<30)} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s := stream{open: func() io.Reader { return io.MultiReader(bytes.NewReader(data), calls(cancel), zeros{}) }}
			if err := flatten(t, ctx, s.image(t)); !errors.Is(err, context.Canceled) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// cut is a layer whose end is missing.
type cut struct{ v1.Layer }

func (c cut) Compressed() (io.ReadCloser, error) {
	r, err := c.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	size, err := c.Size()
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, size-20), r}, err
}

// calls is a reader that holds nothing and calls itself.
type calls func()

func (c calls) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}
