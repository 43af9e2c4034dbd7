package gce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"capstan/internal/cloud/pushlock"
)

// imageTime bounds the making of an image once its archive is sent, cleanTime
// the removal of what a push has left.
const (
	imageTime = 30 * time.Minute
	cleanTime = 2 * time.Minute
)

// Push is an image that is to be made.
type Push struct {
	Name   string // of its family, and the beginning of its own
	Image  string // Capstan's image
	Digest string // of that
	Arch   string // as Go calls it
	Disk   string // hexadecimal: the same for disks of the same bytes, and for no others
	// Archive writes the disk as Compute Engine takes it, each time the same
	// bytes.
	Archive func(ctx context.Context, w io.Writer) error
}

// Image is one that was made, or found.
type Image struct {
	Name  string
	Path  string // as other tools take it: projects/P/global/images/NAME
	Found bool
	Sent  int64 // bytes
}

// CutError tells that a push can go on where it was.
type CutError struct {
	Err  error
	Left string // a bucket, or an object in one, as gs://NAME
}

func (e *CutError) Error() string { return e.Err.Error() }
func (e *CutError) Unwrap() error { return e.Err }
func (e *CutError) Hint() string {
	return "the same command again, which goes on where it was; " + removal(e.Left) + " removes what is there"
}

// LeftError tells that something is left that costs money.
type LeftError struct {
	Err  error
	Left string // as in a CutError
}

func (e *LeftError) Error() string {
	return fmt.Sprintf("%s is left in Cloud Storage: %v", e.Left, e.Err)
}
func (e *LeftError) Unwrap() error { return e.Err }
func (e *LeftError) Hint() string  { return removal(e.Left) }

// removal is a command that removes a bucket with what is in it, or an object.
func removal(left string) string { return "gcloud storage rm --recursive " + left }

// Push makes an image, unless there is one of the same disk. What it puts in
// Cloud Storage on the way is removed whatever happens, unless the connection
// is lost: the next push of the same disk goes on then.
func (c *Client) Push(ctx context.Context, p *Push) (Image, error) {
	img := Image{Name: p.imageName()}
	img.Path = "projects/" + c.opts.Project + "/global/images/" + img.Name
	if c.opts.Would != nil {
		c.tell(p)
		return img, nil
	}
	lock, err := c.lock(ctx, p)
	if err != nil {
		return img, err
	}
	defer lock.Close()
	found, err := c.find(ctx, p)
	if err != nil {
		return img, err
	}
	if found {
		img.Found = true
		return img, c.sweep(ctx, p)
	}
	for anew := true; ; anew = false {
		s, err := c.stage(ctx, p)
		if err == nil {
			var sent int64
			sent, err = c.upload(ctx, p, s.Session)
			img.Sent += sent
		}
		if errors.Is(err, errSession) && anew {
			s.Session = ""
			if err := s.keep(); err != nil {
				return img, err
			}
			continue
		}
		if err == nil {
			err = pushlock.NoteMade(c.madePath(p.imageName()))
		}
		if err == nil {
			err = c.makeImage(ctx, p, s)
		}
		switch {
		case s == nil:
			return img, err
		case err != nil && passing(err) && ctx.Err() == nil:
			return img, &CutError{Err: err, Left: s.String()}
		}
		return img, errors.Join(err, c.clean(ctx, s))
	}
}

// stage has a place for the archive, and a session for sending it there: those
// of a push that was cut, or new ones. With an error it returns what has to be
// removed, or nil.
func (c *Client) stage(ctx context.Context, p *Push) (*stage, error) {
	s := kept(c.stagePath(p))
	if s != nil && c.opts.Bucket != "" && s.Bucket != c.opts.Bucket {
		if err := c.clean(ctx, s); err != nil {
			return nil, err
		}
		s = nil
	}
	if s == nil {
		s = &stage{path: c.stagePath(p), Bucket: c.opts.Bucket, Object: p.object()}
	}
	if s.Session != "" && s.Version == c.opts.Version {
		return s, nil
	}
	if s.Bucket == "" {
		var err error
		if s.Bucket, err = ownBucket(p); err != nil {
			return nil, err
		}
		s.Made = true
	}
	if s.Made {
		if err := c.makeBucket(ctx, s); refused(err) {
			return nil, errors.Join(err, s.forget())
		} else if err != nil {
			return s, err
		}
	}
	var err error
	if s.Session, err = c.begin(ctx, s); err != nil {
		return s, err
	}
	s.Version = c.opts.Version
	return s, s.keep()
}

// clean removes what a push has put in Cloud Storage, also if ctx has ended.
func (c *Client) clean(ctx context.Context, s *stage) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	if s.Session != "" {
		_, _ = c.once(ctx, call{method: "DELETE", url: s.Session}) // a session that is over costs nothing
	}
	err := c.gone(ctx, c.removeObject(s.Bucket, s.Object))
	if err == nil && s.Made {
		err = c.gone(ctx, c.removeBucket(s.Bucket))
	}
	if err != nil {
		return &LeftError{Err: err, Left: s.String()}
	}
	return s.forget()
}

// sweep removes what a push has left that was killed on this host. What others
// have left is for prune: they may go on with it.
func (c *Client) sweep(ctx context.Context, p *Push) error {
	if s := kept(c.stagePath(p)); s != nil {
		return c.clean(ctx, s)
	}
	return nil
}

// tidy removes what a push of the same disk has left that was killed on this
// host.
func (c *Client) tidy(ctx context.Context, p *Push) error {
	if kept(c.stagePath(p)) == nil {
		return nil
	}
	lock, err := c.lock(ctx, p)
	if err != nil {
		return err
	}
	defer lock.Close()
	return c.sweep(ctx, p)
}

// gone makes a call that removes something, which may be gone already.
func (c *Client) gone(ctx context.Context, what call) error {
	err := c.do(ctx, what, nil)
	if is(err, 404) {
		return nil
	}
	return err
}

// tell tells which calls a push would make.
func (c *Client) tell(p *Push) {
	s := &stage{Bucket: c.opts.Bucket, Object: p.object()}
	calls := []call{c.getImage(p.imageName())}
	if s.Bucket == "" {
		s.Bucket, s.Made = bucketPrefix(p)+"RANDOM", true
		calls = append(calls, c.insertBucket(s.Bucket))
	}
	calls = append(calls, c.beginUpload(s), asking("SESSION"), call{method: "PUT", url: "SESSION", header: map[string]string{"Content-Range": fmt.Sprintf("bytes 0-%d/*, and so on", pieceSize-1)}},
		c.insertImage(p, s, "RANDOM"), c.waitFor(operation{Name: "OPERATION"}), call{method: "DELETE", url: "SESSION"}, c.removeObject(s.Bucket, s.Object))
	if s.Made {
		calls = append(calls, c.removeBucket(s.Bucket))
	}
	for _, one := range calls {
		c.opts.Would(one.String())
	}
}
