package gce

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/url"
)

// ownBucket names a bucket for this push alone: another push of the same disk,
// under another name or on another host, has its own.
func ownBucket(p *Push) (string, error) {
	var random [6]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	return bucketPrefix(p) + hex.EncodeToString(random[:]), nil
}

// makeBucket makes a stage's bucket, unless it is there. It is written down
// before, so that it is found whatever becomes of this process.
func (c *Client) makeBucket(ctx context.Context, s *stage) error {
	if err := s.keep(); err != nil {
		return err
	}
	what := c.insertBucket(s.Bucket)
	what.whole = true
	err := c.do(ctx, what, nil)
	if err == nil || is(err, 409) { // by an earlier call
		return ctx.Err()
	}
	return err
}

func bucketPrefix(p *Push) string { return "capstan-" + p.Disk[:min(len(p.Disk), 24)] + "-" }

func (c *Client) api() string { return c.storage + "storage/v1/b" }

// insertBucket makes a bucket whose content nobody pays for longer than a day,
// whatever becomes of this process.
func (c *Client) insertBucket(name string) call {
	type object = map[string]any
	return call{method: "POST", url: c.api() + "?" + url.Values{"project": {c.opts.Project}}.Encode(), body: bucket{
		Name: name, Location: c.opts.Location, Labels: map[string]string{"capstan-version": label(c.opts.Version)},
		IAM:        object{"uniformBucketLevelAccess": object{"enabled": true}, "publicAccessPrevention": "enforced"},
		SoftDelete: object{"retentionDurationSeconds": "0"},
		Lifecycle:  object{"rule": []object{{"action": object{"type": "Delete"}, "condition": object{"age": 1}}}},
	}}
}

// bucket is what of a bucket is said (Cloud Storage's JSON API, Buckets).
type bucket struct {
	Name       string            `json:"name"`
	Location   string            `json:"location,omitempty"`
	Labels     map[string]string `json:"labels"`
	IAM        any               `json:"iamConfiguration"`
	SoftDelete any               `json:"softDeletePolicy"`
	Lifecycle  any               `json:"lifecycle"`
}

func (c *Client) bucketURL(name string) string { return c.api() + "/" + url.PathEscape(name) }

func (c *Client) objectURL(bucket, object string) string {
	return c.bucketURL(bucket) + "/o/" + url.PathEscape(object)
}

func (c *Client) getBucket(name string) call {
	return call{method: "GET", url: c.bucketURL(name) + "?fields=timeCreated"}
}

func (c *Client) getObject(bucket, object string) call {
	return call{method: "GET", url: c.objectURL(bucket, object) + "?fields=timeCreated"}
}

func (c *Client) removeBucket(name string) call {
	return call{method: "DELETE", url: c.bucketURL(name)}
}

func (c *Client) removeObject(bucket, object string) call {
	return call{method: "DELETE", url: c.objectURL(bucket, object)}
}

// begin begins a session for sending an object, and returns its URL.
func (c *Client) begin(ctx context.Context, s *stage) (session string, err error) {
	what := c.beginUpload(s)
	err = c.retry(ctx, func() error {
		a, err := c.once(ctx, what)
		if err == nil && a.status/100 != 2 {
			err = a.err(what.url, c)
		}
		session = a.header.Get("Location")
		return err
	})
	return session, err
}

func (c *Client) beginUpload(s *stage) call {
	q := url.Values{"uploadType": {"resumable"}, "name": {s.Object}}
	return call{method: "POST", url: c.storage + "upload/storage/v1/b/" + url.PathEscape(s.Bucket) + "/o?" + q.Encode(),
		body: map[string]string{"contentType": "application/gzip"}}
}
