package rofs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
)

// Tar is the source of a tar stream that write writes, again for each reading.
func Tar(name string, write func(ctx context.Context, w io.Writer) error) Source {
	return Source{Name: name, Each: func(ctx context.Context, each func(*tar.Header, io.Reader) error) error {
		pr, pw := io.Pipe()
		written := make(chan error, 1)
		go func() { // ends at the latest when pr is closed, and is waited for
			err := write(ctx, pw)
			pw.CloseWithError(err)
			written <- err
		}()
		err := EachOf(pr, each)
		pr.CloseWithError(errStopped)
		// What write failed of is the cause, unless the reader made it stop.
		if werr := <-written; werr != nil && !errors.Is(werr, errStopped) {
			return werr
		}
		return err
	}}
}

var errStopped = errors.New("nobody reads on")

// EachOf calls each for the entries of a tar, and reads the tar to its end. A
// tar without that, which is an empty block, is io.ErrUnexpectedEOF.
func EachOf(r io.Reader, each func(*tar.Header, io.Reader) error) error {
	in := &ending{r: r}
	t := tar.NewReader(in)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			if _, err := io.Copy(io.Discard, in); err != nil {
				return err
			}
			return in.check()
		}
		// Insecure paths are judged where they are used.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := each(h, t); err != nil {
			return err
		}
	}
}

// ending keeps the last block of what is read through it.
type ending struct {
	r    io.Reader
	last []byte
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	keep := p[max(0, n-Block):n]
	if over := len(e.last) + len(keep) - Block; over > 0 {
		e.last = append(e.last[:0], e.last[over:]...)
	}
	e.last = append(e.last, keep...)
	return n, err
}

// check says whether a tar ends as it should; nothing at all is none.
func (e *ending) check() error {
	if len(e.last) > 0 && (len(e.last) < Block || len(bytes.Trim(e.last, "\x00")) > 0) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// File is a file whose content is at hand.
type File struct {
	Path    string
	Content []byte
}

// Files is the source of files whose content is at hand.
func Files(name string, files []File) Source {
	return Source{Name: name, Each: func(_ context.Context, each func(*tar.Header, io.Reader) error) error {
		for _, f := range files {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Size: int64(len(f.Content))}
			if err := each(h, bytes.NewReader(f.Content)); err != nil {
				return err
			}
		}
		return nil
	}}
}

// HostFile is the source of one file of the host.
func HostFile(file, as string) Source {
	return Source{Name: file, Each: func(_ context.Context, each func(*tar.Header, io.Reader) error) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return &Error{"it is no file", "the path of a file or a directory"}
		}
		return each(&tar.Header{Typeflag: tar.TypeReg, Name: as, Size: info.Size()}, f)
	}}
}
