package repo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func receive(t *testing.T, s *Store) *Incoming {
	t.Helper()
	in, err := s.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Close)
	return in
}

func described(t *testing.T, data []byte) v1.Descriptor {
	t.Helper()
	h, n, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{Digest: h, Size: n}
}

func blobOf(t *testing.T, in *Incoming, d v1.Descriptor) *Blob {
	t.Helper()
	b, err := in.Blob(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadWhileItArrives(t *testing.T) {
	in := receive(t, testStore(t))
	data := bytes.Repeat([]byte("some bytes "), 10000)
	b := blobOf(t, in, described(t, data))
	if again := blobOf(t, in, described(t, data)); again != b {
		t.Error("the same blob arrives twice")
	}
	// Each reader acknowledges what it has read before more is written, so
	// that it has to wait for it.
	const readers, piece = 3, 7777
	var wg sync.WaitGroup
	read := make(chan int, readers)
	for range readers {
		r, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			var got bytes.Buffer
			for got.Len() < len(data) {
				n, err := io.CopyN(&got, r, min(piece, int64(len(data)-got.Len())))
				if err != nil {
					t.Errorf("Read: %v", err)
				}
				read <- int(n)
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) || !b.Whole() {
				t.Errorf("at the end: %d, %v; whole: %v", n, err, b.Whole())
			}
			if err := r.Close(); err != nil || !bytes.Equal(got.Bytes(), data) {
				t.Errorf("read %d bytes, %v", got.Len(), err)
			}
		})
	}
	for at := 0; at < len(data); at += piece {
		if _, err := b.Write(data[at:min(at+piece, len(data))]); err != nil {
			t.Fatal(err)
		}
		for range readers {
			<-read
		}
		if b.Whole() {
			t.Error("whole before it was verified")
		}
	}
	if err := errors.Join(b.Finish(nil), b.Wait()); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestBlobThatIsNot(t *testing.T) {
	in := receive(t, testStore(t))
	lost := errors.New("lost")
	for name, c := range map[string]struct {
		write, finish string // what is written, the error it is finished with
		want          any
	}{
		"short":   {"abc", "", new(*SizeError)},
		"long":    {"abcdefg", "", new(*SizeError)},
		"another": {"xxxxxx", "", new(*DigestError)},
		"lost":    {"abc", "lost", nil},
	} {
		d := described(t, []byte("abcdef"))
		b := blobOf(t, in, d)
		delete(in.blobs, d.Digest) // the next is a new one
		r, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		_, werr := b.Write([]byte(c.write))
		if c.finish != "" {
			werr = lost
		}
		ferr := b.Finish(werr)
		_, rerr := io.ReadAll(r)
		for _, err := range []error{ferr, rerr, b.Wait()} {
			if c.want != nil && !errors.As(err, c.want) || c.want == nil && !errors.Is(err, lost) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if b.Whole() || b.Size() > 6 {
			t.Errorf("%s: whole %v, size %d", name, b.Whole(), b.Size())
		}
		r.Close()
	}
	if _, err := in.Blob(v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "../x"}}); err == nil {
		t.Error("a blob with a path for a digest is taken")
	}
}

func TestReaderGivesUp(t *testing.T) {
	s := testStore(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	in, err := s.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	b := blobOf(t, in, described(t, []byte("abcdef")))
	var wg sync.WaitGroup
	read := func(want error) io.Closer {
		r, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
				t.Errorf("Read: %d, %v; want %v", n, err, want)
			}
		})
		return r
	}
	read(os.ErrClosed).Close()
	wg.Wait()
	why := errors.New("why")
	r := read(why)
	wg.Go(func() {
		if err := b.Wait(); !errors.Is(err, why) {
			t.Errorf("Wait: %v", err)
		}
	})
	cancel(why)
	wg.Wait()
	r.Close()
	if _, err := b.Write([]byte("a")); !errors.Is(err, why) {
		t.Errorf("Write: %v", err)
	}
}

// TestIncomingKeeps removes an image while another is received that shares
// layers with it.
func TestIncomingKeeps(t *testing.T) {
	s := testStore(t)
	put(t, s, "old", testImage(t, 1, 2))
	img := testImage(t, 1, 2, 3)
	in := receive(t, s)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		b := blobOf(t, in, described(t, layerData(i+1)))
		if b.Whole() != (i < 2) {
			t.Errorf("layer %d is there: %v", i, b.Whole())
		}
		if b.Whole() {
			continue
		}
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(b, r)
		if err := b.Finish(err); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := s.Remove(t.Context(), "old", RemoveOptions{}); err != nil || done.Freed.Blobs != 4 {
		t.Fatalf("Remove: %+v, %v", done, err)
	}
	manifest, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	mediaType, err := img.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	arrived, err := in.Image(mediaType, manifest, config)
	if err != nil {
		t.Fatal(err)
	}
	if layers, err = arrived.Layers(); err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, layerData(i+1)) {
			t.Errorf("layer %d has %d bytes, %v", i, len(got), err)
		}
		r.Close()
	}
	source := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	e, err := in.Put(t.Context(), mustName(t, "new@"+source.String()), arrived, source)
	if err != nil || e.Origin == nil || e.Origin.Digest != source {
		t.Fatalf("Put: %+v, %v", e, err)
	}
	valid(t, arrived) // from where it is now
	for _, ref := range []string{"new@" + source.String(), "new@" + e.Digest.String(), e.Digest.Hex[:8]} {
		got, found, err := s.Image(t.Context(), ref)
		if err != nil || found.Digest != e.Digest || found.Origin == nil || found.Origin.Digest != source {
			t.Fatalf("Image(%s): %+v, %v", ref, found, err)
		}
		valid(t, got)
	}
	in.Close()
	clean(t, s)
	// A blob that is damaged in the store is noticed where it is used again.
	path := s.blobPath(described(t, layerData(1)).Digest)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := layerData(1)
	damaged[600]++
	if err := os.WriteFile(path, damaged, 0o400); err != nil {
		t.Fatal(err)
	}
	r, err := blobOf(t, receive(t, s), described(t, layerData(1))).Open()
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, r)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Path != path || len(corrupt.Images) != 1 {
		t.Errorf("reading a damaged blob: %v", err)
	}
	r.Close()
}

func TestIncomingLeavesNothing(t *testing.T) {
	s := testStore(t)
	in := receive(t, s)
	b := blobOf(t, in, described(t, []byte("abcdef")))
	if _, err := b.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if blobs, err := os.ReadDir(s.blobsDir()); err != nil || len(blobs) > 0 {
		t.Errorf("visible: %v, %v", blobs, err)
	}
	in.Close()
	if left, err := filepath.Glob(filepath.Join(s.tmpDir(), "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	b.Finish(context.Canceled)
	clean(t, s)
}
