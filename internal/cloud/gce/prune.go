package gce

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"capstan/internal/cloud/pushlock"
	"capstan/internal/hypervisor"
)

// abandoned is how old a bucket is that no push goes on with: what it holds is
// deleted after a day. It is, too, longer than any making or removing of an
// instance takes.
const abandoned = 24 * time.Hour

// Prune removes what was left by commands that never came to their end and, with
// all, the images that capstan has made and no template or disk is of, but for
// those that another host has made lately. It returns what it has removed.
func (d *Driver) Prune(ctx context.Context, all bool) ([]hypervisor.Resource, error) {
	c, err := d.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	removed, err := c.prune(ctx, all, time.Now().Add(-abandoned))
	return removed, explain(err)
}

func (c *Client) prune(ctx context.Context, all bool, before time.Time) ([]hypervisor.Resource, error) {
	removed, err := c.pruneStages(ctx)
	if err != nil {
		return removed, err
	}
	old, err := c.pruneBuckets(ctx, before)
	removed = append(removed, old...)
	if err != nil {
		return removed, err
	}
	old, err = c.pruneInstances(ctx, before)
	removed = append(removed, old...)
	if err != nil || !all {
		return removed, err
	}
	images, err := c.listImages(ctx)
	if err != nil {
		return removed, err
	}
	used, err := c.usedImages(ctx) // after it: a template that is made meanwhile counts
	if err != nil {
		return removed, err
	}
	for _, image := range images {
		if fresh := image.Created.After(before.Add(abandoned - pushlock.Fresh)); used[image.ID] || fresh && !pushlock.IsMade(c.madePath(image.ID)) {
			continue // another host may be about to use one that it has just made
		}
		if err := c.delete(ctx, c.global()+"images/"+image.ID); err != nil {
			return removed, err
		}
		removed = append(removed, image)
	}
	return removed, nil
}

// pruneStages removes what pushes of this host have left that ended before
// their time. What another process is at stays.
func (c *Client) pruneStages(ctx context.Context) ([]hypervisor.Resource, error) {
	files, err := os.ReadDir(c.stages())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var removed []hypervisor.Resource
	for _, f := range files {
		if filepath.Ext(f.Name()) != stageSuffix {
			continue
		}
		gone, err := c.pruneStage(ctx, filepath.Join(c.stages(), f.Name()))
		removed = append(removed, gone...)
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

func (c *Client) pruneStage(ctx context.Context, path string) ([]hypervisor.Resource, error) {
	name := strings.TrimSuffix(filepath.Base(path), stageSuffix)
	lock, err := pushlock.Try(c.lockPath(name[strings.LastIndexByte(name, '-')+1:]))
	if err != nil || lock == nil {
		return nil, err
	}
	defer lock.Close()
	s := kept(path)
	if s == nil {
		return nil, nil // it has just ended
	}
	if c.opts.Would != nil {
		c.opts.Would(c.removeObject(s.Bucket, s.Object).String())
		if s.Made {
			c.opts.Would(c.removeBucket(s.Bucket).String())
		}
		return nil, nil
	}
	what := hypervisor.Resource{Platform: Name, Kind: "object", ID: s.String()}
	look := c.getObject(s.Bucket, s.Object)
	if s.Made {
		what.Kind, what.ID = "bucket", s.Bucket
		look = c.getBucket(s.Bucket)
	}
	var found struct {
		Created time.Time `json:"timeCreated"`
	}
	there := c.do(ctx, look, &found)
	if there != nil && !is(there, http.StatusNotFound) {
		return nil, there
	}
	if err := c.clean(ctx, s); err != nil || there != nil {
		return nil, err
	}
	what.Created = found.Created
	return []hypervisor.Resource{what}, nil
}

// ownName is what a bucket is called that ownBucket makes.
var ownName = regexp.MustCompile(`^capstan-[0-9a-f]{24}-[0-9a-f]{12}$`)

// ownBuckets lists the buckets that pushes have made.
func (c *Client) ownBuckets(ctx context.Context) ([]hypervisor.Resource, error) {
	q := url.Values{"project": {c.opts.Project}, "prefix": {"capstan-"}, "fields": {"items(name,timeCreated)"}}
	var list struct {
		Items []struct {
			Name    string
			Created time.Time `json:"timeCreated"`
		}
	}
	if err := c.do(ctx, call{method: "GET", url: c.api() + "?" + q.Encode()}, &list); err != nil {
		return nil, err
	}
	var all []hypervisor.Resource
	for _, b := range list.Items {
		if ownName.MatchString(b.Name) {
			all = append(all, hypervisor.Resource{Platform: Name, Kind: "bucket", ID: b.Name, Created: b.Created})
		}
	}
	return all, nil
}

// busy tells whether another process of this host is at a push of the disk that
// one of ownBuckets is of: it may have gone on in that.
func (c *Client) busy(bucket string) (bool, error) {
	path := c.lockPath(strings.TrimPrefix(bucket, "capstan-"))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	lock, err := pushlock.Try(path)
	if err != nil || lock == nil {
		return true, err
	}
	lock.Close()
	return false, nil
}

// pruneBuckets removes the buckets that pushes have made before then, with what
// is in them. One in which a push of this host goes on stays.
func (c *Client) pruneBuckets(ctx context.Context, before time.Time) ([]hypervisor.Resource, error) {
	list, err := c.leftBuckets(ctx)
	if err != nil {
		return nil, err
	}
	var removed []hypervisor.Resource
	for _, b := range list {
		if b.Created.After(before) {
			continue
		}
		busy, err := c.busy(b.ID)
		if err != nil {
			return removed, err
		}
		if busy {
			continue
		}
		var objects struct{ Items []struct{ Name string } }
		err = c.do(ctx, call{method: "GET", url: c.api() + "/" + url.PathEscape(b.ID) + "/o?fields=items(name)"}, &objects)
		for _, o := range objects.Items {
			if err == nil {
				err = c.gone(ctx, c.removeObject(b.ID, o.Name))
			}
		}
		if err == nil {
			err = c.gone(ctx, c.removeBucket(b.ID))
		}
		if err != nil {
			return removed, err
		}
		removed = append(removed, b)
	}
	return removed, nil
}

// usedImages are the names of those that templates or disks in the project are
// of, whoever has made them.
func (c *Client) usedImages(ctx context.Context) (map[string]bool, error) {
	templates, err := aggregated[struct{ Properties struct{ Disks []attached } }](ctx, c, "instanceTemplates", "", "properties/disks/initializeParams/sourceImage")
	if err != nil {
		return nil, err
	}
	disks, err := aggregated[struct {
		Image string `json:"sourceImage"`
	}](ctx, c, "disks", "", "sourceImage")
	used := map[string]bool{}
	for _, t := range templates {
		for _, d := range t.Properties.Disks {
			used[path.Base(d.Init.Image)] = true
		}
	}
	for _, d := range disks {
		used[path.Base(d.Image)] = true
	}
	return used, err
}
