package gce

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
)

// Configured tells whether there are credentials where Google's libraries look
// for them. Whether this host is one of Compute Engine's, with an account, is
// not asked.
func (d *Driver) Configured() bool {
	if os.Getenv("GOOGLE_APPLICATION_CREDENTIALS") != "" {
		return true
	}
	dir := filepath.Join(os.Getenv("HOME"), ".config") // whatever CLOUDSDK_CONFIG says
	if runtime.GOOS == "windows" {
		dir = os.Getenv("APPDATA")
	}
	_, err := os.Stat(filepath.Join(dir, "gcloud", "application_default_credentials.json"))
	return err == nil
}

// Probe asks for an image, if there is one, and tells the project.
func (d *Driver) Probe(ctx context.Context) (string, error) {
	c, err := d.connect(ctx, "")
	if err == nil {
		err = explain(c.do(ctx, call{method: "GET", url: c.global() + "images?maxResults=1&fields=items(name)"}, nil))
	}
	if err != nil {
		return "", err
	}
	return "project " + c.opts.Project, nil
}
