package image

import (
	"io"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Progress is told how far pieces of work are. It is called by several
// goroutines at once; a piece is complete when done is total.
type Progress interface {
	Update(piece string, done, total int64)
}

// flattening is how Watched calls its piece of work.
const flattening = "flattening"

// Watched returns img with a progress that is told how much of its layers has
// been read, which is how far flattening it is. The progress may be nil.
func Watched(img v1.Image, progress Progress) v1.Image {
	if progress == nil {
		return img
	}
	return &watched{Image: img, progress: progress}
}

// watched is an image whose layers tell what is read of them.
type watched struct {
	v1.Image
	progress Progress
	done     atomic.Int64
	total    int64 // bytes of all layers
}

func (w *watched) Layers() ([]v1.Layer, error) {
	layers, err := w.Image.Layers()
	if err != nil {
		return nil, err
	}
	w.total = 0
	list := make([]v1.Layer, len(layers))
	for i, l := range layers {
		size, err := l.Size()
		if err != nil {
			return nil, err
		}
		w.total += size
		list[i] = &watchedLayer{l, w}
	}
	if w.total > 0 {
		w.progress.Update(flattening, 0, w.total)
	}
	return list, nil
}

type watchedLayer struct {
	v1.Layer
	image *watched
}

func (l *watchedLayer) Compressed() (io.ReadCloser, error) {
	r, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	return &watchedReader{r, l.image}, nil
}

type watchedReader struct {
	io.ReadCloser
	image *watched
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		r.image.progress.Update(flattening, r.image.done.Add(int64(n)), r.image.total)
	}
	return n, err
}
