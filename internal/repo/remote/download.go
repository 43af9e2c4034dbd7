package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"capstan/internal/repo"
)

// maxResumes bounds how often one blob's download is taken up again. Beside
// it, maxTries of them in a row may bring nothing.
const maxResumes = 1000

// Sink is what a blob is downloaded to. It is asked where to go on.
type Sink interface {
	io.Writer
	Size() int64
}

// Download gets one of the image's layers, from where into has it up to now. A
// connection that breaks is taken up again there. The registry's answers are
// checked against the size in d; the digest is for into's owner to verify.
func (img *Image) Download(ctx context.Context, d v1.Descriptor, into Sink) error {
	var err error
	for _, p := range img.places {
		err = img.download(ctx, p, d, into)
		if err == nil || ctx.Err() != nil || !elsewhere(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("downloading layer %s: %w", d.Digest, err)
	}
	return nil
}

// elsewhere reports whether another registry may do better: this one failed,
// not what it gave.
func elsewhere(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.lie
}

// download gets a blob from p.
func (img *Image) download(ctx context.Context, p place, d v1.Descriptor, into Sink) error {
	session, err := img.client.session(ctx, p, transport.PullScope)
	if err != nil {
		return err
	}
	b := &blobRequest{p: p, session: session, d: d, into: into}
	for fruitless, resumes := 0, 0; ; resumes++ {
		before := into.Size()
		err := b.do(ctx)
		var broken *brokenError
		var write *writeError
		switch {
		case errors.As(err, &write):
			return write.err
		case !errors.As(err, &broken) || ctx.Err() != nil:
			return explain(p, "blob "+d.Digest.String(), err)
		}
		if fruitless++; into.Size() > before {
			fruitless = 1
		}
		if fruitless == maxTries || resumes == maxResumes {
			return &Error{Host: p.host, Reason: "breaks off again and again: " + oneLine(broken.Error()), Err: broken.err,
				hint: "again later"}
		}
		if err := sleep(ctx, pauseFor(img.client.opts.Pause, fruitless)); err != nil {
			return err
		}
	}
}

// blobRequest is a blob to get from one place.
type blobRequest struct {
	p       place
	session *http.Client
	d       v1.Descriptor
	into    Sink
}

// brokenError is a connection that broke while a blob came.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// writeError is an error of the sink.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }

// do asks for what is missing of the blob, once.
func (b *blobRequest) do(ctx context.Context) error {
	have := b.into.Size()
	if have == b.d.Size && have > 0 {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.p.url("blobs", b.d.Digest.String()), nil)
	if err != nil {
		return err
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := b.session.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	skip, err := b.check(resp, have)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		return &brokenError{err}
	}
	return b.copy(resp.Body)
}

// check looks at the answer's head and returns how many bytes of its body
// there are already: all, where the server does not send a part.
func (b *blobRequest) check(resp *http.Response, have int64) (skip int64, err error) {
	if have > 0 && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return 0, b.size(have)
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return 0, err
	}
	left := b.d.Size - have
	if resp.StatusCode == http.StatusOK {
		skip, left = have, b.d.Size
	} else if start := rangeStart(resp.Header.Get("Content-Range")); have == 0 || start != have {
		return 0, lie(b.p, fmt.Sprintf("gave another part of %s than it was asked for", b.d.Digest))
	}
	if n := resp.ContentLength; n >= 0 && n != left {
		return 0, b.size(b.d.Size + n - left)
	}
	return skip, nil
}

// size returns the error of a blob that has another size than it should.
func (b *blobRequest) size(got int64) error {
	err := lie(b.p, (&repo.SizeError{Digest: b.d.Digest, Want: b.d.Size, Got: got}).Error())
	return err
}

// lie returns the error of a registry that contradicts itself.
func lie(p place, what string) *Error {
	return &Error{Host: p.host, Reason: "cannot be trusted: " + what, hint: "again, or from another registry", lie: true}
}

// rangeStart returns where the part begins that a Content-Range header names:
// RFC 9110, section 14.4. It returns -1 for one that it cannot read.
func rangeStart(s string) int64 {
	rest, ok := strings.CutPrefix(s, "bytes ")
	first, _, dash := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if !ok || !dash || err != nil || n < 0 {
		return -1
	}
	return n
}

// copy writes what r gives to the sink, and no more than is missing.
func (b *blobRequest) copy(r io.Reader) error {
	in := &sourceReader{r: r}
	left := b.d.Size - b.into.Size()
	n, err := io.CopyBuffer(writerOnly{b.into}, io.LimitReader(in, left), make([]byte, 256<<10))
	switch {
	case in.err != nil && in.err != io.EOF:
		return &brokenError{in.err}
	case err != nil:
		return &writeError{err}
	case n < left:
		return &brokenError{fmt.Errorf("blob %s ended %d bytes early", b.d.Digest, left-n)}
	}
	// A body without end would never be noticed otherwise.
	if extra, err := io.ReadFull(r, make([]byte, 1)); err == nil && extra > 0 {
		return b.size(b.d.Size + 1)
	}
	return nil
}

// sourceReader keeps the error of its reader, to tell it from a writer's.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (n int, err error) {
	n, err = s.r.Read(p)
	s.err = err
	return n, err
}

// writerOnly hides a ReadFrom: what is read must pass through our buffer.
type writerOnly struct{ io.Writer }
