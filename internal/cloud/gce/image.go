package gce

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"
)

// MaxName bounds a family's name: an image's own has 13 characters more.
const MaxName = 50

// ValidName tells what a family can be called (Compute Engine's "Naming
// resources", RFC 1035).
var ValidName = regexp.MustCompile(fmt.Sprintf(`^[a-z]([-a-z0-9]{0,%d}[a-z0-9])?$`, MaxName-2))

// NameOf makes a family's name of an image's.
func NameOf(image string) string {
	name := notInName.ReplaceAllString(strings.ToLower(image), "-")
	name = strings.TrimLeft(name, "-0123456789")
	name = strings.TrimRight(name[:min(len(name), MaxName)], "-")
	if name == "" {
		return "capstan"
	}
	return name
}

var (
	notInName  = regexp.MustCompile(`[^a-z0-9]+`)
	notInLabel = regexp.MustCompile(`[^a-z0-9_-]+`)
)

// label makes a label's value of a text (Compute Engine's "Requirements for
// labels").
func label(text string) string {
	const longest = 63
	text = notInLabel.ReplaceAllString(strings.ToLower(text), "_")
	return text[:min(len(text), longest)]
}

// architectures are as Compute Engine calls them, by Go's names.
var architectures = map[string]string{"amd64": "X86_64", "arm64": "ARM64"}

// imageName is the same for the same disk under the same name.
func (p *Push) imageName() string { return p.Name + "-" + p.Disk[:min(len(p.Disk), diskInName)] }

// diskInName is how much of a disk's ID an image's name has.
const diskInName = 12

func (p *Push) object() string { return "capstan-" + p.imageName() + ".tar.gz" }

// image is what of an image is said or asked (Compute Engine's API v1, images).
type image struct {
	Name        string            `json:"name"`
	Family      string            `json:"family"`
	Description string            `json:"description"`
	Labels      map[string]string `json:"labels"`
	Arch        string            `json:"architecture"`
	RawDisk     *rawDisk          `json:"rawDisk,omitempty"`
	Features    []feature         `json:"guestOsFeatures"`
	Locations   []string          `json:"storageLocations,omitempty"`
	Status      string            `json:"status,omitempty"`
}

type rawDisk struct {
	Source string `json:"source"`
	Type   string `json:"containerType"`
}

type feature struct {
	Type string `json:"type"`
}

// operation is something that Compute Engine is at.
type operation struct {
	Name     string `json:"name"`
	Status   string `json:"status"`
	Progress int64  `json:"progress"`
	Zone     string `json:"zone"` // a URL; "" where it is in none
	Error    struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	} `json:"error"`
}

func (c *Client) global() string {
	return c.compute + "projects/" + url.PathEscape(c.opts.Project) + "/global/"
}

func (c *Client) getImage(name string) call {
	return call{method: "GET", url: c.global() + "images/" + name}
}

// insertImage makes an image. A call with the same id does nothing that an
// earlier one has done.
func (c *Client) insertImage(p *Push, s *stage, id string) call {
	img := image{
		Name: p.imageName(), Family: p.Name,
		Description: fmt.Sprintf("%s, %s, made by capstan %s", p.Image, p.Digest, c.opts.Version),
		Labels: map[string]string{
			"capstan-image": label(p.Image), "capstan-digest": label(strings.TrimPrefix(p.Digest, "sha256:")),
			"capstan-disk": label(p.Disk), "capstan-version": label(c.opts.Version),
		},
		Arch:     architectures[p.Arch],
		RawDisk:  &rawDisk{s.source(), "TAR"},
		Features: []feature{{"UEFI_COMPATIBLE"}, {"GVNIC"}, {"VIRTIO_SCSI_MULTIQUEUE"}},
	}
	if c.opts.Location != "" {
		img.Locations = []string{c.opts.Location}
	}
	return call{method: "POST", url: c.global() + "images?requestId=" + id, body: img, whole: true}
}

func (c *Client) removeImage(name string) call {
	return call{method: "DELETE", url: c.global() + "images/" + name}
}

// waitFor waits at the cloud's end, at most two minutes.
func (c *Client) waitFor(op operation) call {
	where := c.global()
	if op.Zone != "" {
		where = c.zone(path.Base(op.Zone))
	}
	return call{method: "POST", url: where + "operations/" + url.PathEscape(op.Name) + "/wait", long: true}
}

// find looks for an image of the same disk, and waits for one that is being
// made. One that came to nothing is removed.
func (c *Client) find(ctx context.Context, p *Push) (found bool, err error) {
	err = within(ctx, imageTime, makingImage, func(ctx context.Context) error {
		found, err = c.look(ctx, p)
		return err
	})
	return found, err
}

func (c *Client) look(ctx context.Context, p *Push) (bool, error) {
	for {
		var have image
		err := c.do(ctx, c.getImage(p.imageName()), &have)
		switch {
		case is(err, http.StatusNotFound):
			return false, nil
		case err != nil:
			return false, err
		case have.Labels["capstan-disk"] != label(p.Disk):
			return false, &TakenError{Name: p.imageName()}
		case have.Status == "READY":
			return true, nil
		case have.Status != "PENDING":
			return false, c.drop(ctx, p)
		}
		c.opts.Progress(makingImage, 0, 100)
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

// TakenError tells that there is an image of that name that is another's.
type TakenError struct{ Name string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("there is an image %s already, which capstan has not made of this disk", e.Name)
}
func (e *TakenError) Hint() string { return "another name: gce:NAME" }

// makeImage makes the image of what was sent. One that this push has begun, and
// that is not finished when ctx ends, is removed; another host's is not.
func (c *Client) makeImage(ctx context.Context, p *Push, s *stage) error {
	own := false
	err := within(ctx, imageTime, makingImage, func(ctx context.Context) (err error) {
		own, err = c.beginImage(ctx, p, s)
		return err
	})
	if own && ctx.Err() != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer cancel()
		err = errors.Join(err, c.drop(ctx, p))
	}
	return err
}

// beginImage makes the image, and tells whether it was this call that began it.
func (c *Client) beginImage(ctx context.Context, p *Push, s *stage) (own bool, err error) {
	var op operation
	err = c.do(ctx, c.insertImage(p, s, requestID()), &op)
	if is(err, http.StatusConflict) { // by another host's push, or one that was killed
		found, err := c.find(ctx, p)
		if err != nil || found {
			return false, err
		}
		if err := c.do(ctx, c.insertImage(p, s, requestID()), &op); err != nil {
			return false, err
		}
	} else if err != nil {
		return false, err
	}
	return true, c.await(ctx, makingImage, op)
}

const makingImage = "making the image"

// drop removes an image.
func (c *Client) drop(ctx context.Context, p *Push) error {
	var op operation
	err := c.do(ctx, c.removeImage(p.imageName()), &op)
	if is(err, http.StatusNotFound) {
		return nil
	}
	if err == nil {
		err = c.await(ctx, "removing the image", op)
	}
	if err != nil {
		return &LeftImageError{Err: err, Name: p.imageName(), Project: c.opts.Project}
	}
	return nil
}

// LeftImageError tells that an image is left that nobody wants.
type LeftImageError struct {
	Err           error
	Name, Project string
}

func (e *LeftImageError) Error() string {
	return fmt.Sprintf("the image %s is left: %v", e.Name, e.Err)
}
func (e *LeftImageError) Unwrap() error { return e.Err }
func (e *LeftImageError) Hint() string {
	return fmt.Sprintf("gcloud compute images delete %s --project %s", e.Name, e.Project)
}

// await waits for an operation's end. A cloud that is overloaded may answer at
// once that it is not there yet: the pauses are for that.
func (c *Client) await(ctx context.Context, doing string, op operation) error {
	const hundred = 100
	told := op.Status != "DONE"
	for pause := 25 * time.Millisecond; op.Status != "DONE"; pause = min(2*pause, 2*time.Second) {
		c.opts.Progress(doing, op.Progress, hundred)
		if err := c.do(ctx, c.waitFor(op), &op); err != nil {
			return err
		}
		if op.Status == "DONE" {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, e := range op.Error.Errors {
		return &OperationError{Doing: doing, Code: e.Code, Message: firstOf(e.Message, e.Code)}
	}
	if told {
		c.opts.Progress(doing, hundred, hundred)
	}
	return nil
}

// awaitWithin is await with a bound.
func (c *Client) awaitWithin(ctx context.Context, limit time.Duration, doing string, op operation) error {
	return within(ctx, limit, doing, func(ctx context.Context) error { return c.await(ctx, doing, op) })
}

// within does something with a bound, of which the error tells, whatever was
// under way.
func within(ctx context.Context, limit time.Duration, doing string, do func(context.Context) error) error {
	bound, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := do(bound)
	if err != nil && ctx.Err() == nil && bound.Err() != nil {
		return fmt.Errorf("%s: Compute Engine is not done after %v: %w", doing, limit, bound.Err())
	}
	return err
}

// OperationError is what something has failed for that was begun.
type OperationError struct{ Doing, Code, Message string }

func (e *OperationError) Error() string {
	return fmt.Sprintf("%s: Compute Engine says: %s", e.Doing, e.Message)
}

// Hint tells what may be done about it.
func (e *OperationError) Hint() string {
	switch {
	case strings.HasPrefix(e.Code, "ZONE_RESOURCE_POOL_EXHAUSTED"):
		return "another --zone, another --type, or again later"
	case e.Code == "QUOTA_EXCEEDED":
		return "a smaller -m or --type, another --zone, or more quota: https://console.cloud.google.com/iam-admin/quotas"
	}
	return ""
}

// requestID is a random UUID (RFC 9562, 5.4).
func requestID() string {
	var b [16]byte
	rand.Read(b[:]) // does not fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
