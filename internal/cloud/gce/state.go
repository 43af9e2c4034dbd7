package gce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"capstan/internal/cloud/pushlock"
)

// stage is where an archive lies on its way to become an image. It is kept in
// a file, so that a push that was cut can go on. Session lets who knows it
// write the object: nobody else may read the file.
type stage struct {
	path string // of the file

	Bucket  string `json:"bucket"`
	Made    bool   `json:"made"` // for this push
	Object  string `json:"object"`
	Session string `json:"session,omitempty"`
	Version string `json:"version"` // another one may pack in another way
}

func (s *stage) source() string { return "https://storage.googleapis.com/" + s.Bucket + "/" + s.Object }

// String is what its owner may want to remove.
func (s *stage) String() string {
	if s.Made {
		return "gs://" + s.Bucket
	}
	return "gs://" + s.Bucket + "/" + s.Object
}

// stages is the folder of this project's.
func (c *Client) stages() string { return filepath.Join(c.opts.State, c.opts.Project) }

const stageSuffix, lockSuffix = ".json", ".lock"

func (c *Client) stagePath(p *Push) string {
	return filepath.Join(c.stages(), p.imageName()+stageSuffix)
}

// madePath is where is noted that this host has made an image.
func (c *Client) madePath(image string) string { return filepath.Join(c.stages(), image) }

// lockPath is that of the lock of all pushes of a disk, which is known by what
// names have of its ID.
func (c *Client) lockPath(disk string) string {
	return filepath.Join(c.stages(), disk[:min(len(disk), diskInName)]+lockSuffix)
}

// lock waits until no other process of this host is at a push of the same disk,
// whatever it is called.
func (c *Client) lock(ctx context.Context, p *Push) (*pushlock.Lock, error) {
	if err := os.MkdirAll(c.stages(), 0o700); err != nil {
		return nil, err
	}
	return pushlock.Wait(ctx, c.lockPath(p.Disk), c.opts.Progress)
}

// keep writes the stage down.
func (s *stage) keep() error {
	doc, err := json.Marshal(s)
	if err != nil {
		return err
	}
	err = os.WriteFile(s.path+".new", doc, 0o600)
	if err == nil {
		err = os.Rename(s.path+".new", s.path)
	}
	if err != nil {
		return fmt.Errorf("writing down where the push is: %w", err)
	}
	return nil
}

// kept reads what was written down of a push before; nil if there was none.
func kept(path string) *stage {
	doc, err := os.ReadFile(path)
	s := stage{path: path}
	if err != nil || json.Unmarshal(doc, &s) != nil || s.Bucket == "" || s.Object == "" {
		return nil // it begins anew
	}
	return &s
}

func (s *stage) forget() error {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting where the push was: %w", err)
	}
	return nil
}
