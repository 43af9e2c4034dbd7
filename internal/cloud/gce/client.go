package gce

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"capstan/internal/hypervisor"
)

// Options say whose Compute Engine it is, and how to talk with it.
type Options struct {
	// Project to make images in; "" is as gcloud and the credentials say.
	Project string
	// Bucket for what is sent, where it is for a moment; "" makes one.
	Bucket string
	// Location of a bucket that is made, and of the image; "" is where gcloud's
	// zone or region is, or else the cloud's default.
	Location string
	// Zone of machines; "" is gcloud's. Arch is the guest's, "" is amd64.
	Zone, Arch string
	// Version of Capstan.
	Version string
	// State is a folder for what is needed to go on after a cut.
	State string
	// Progress is told how far something is.
	Progress func(what string, done, total int64)
	// Tries of a call that fails for a reason that may pass; 0 is eight.
	Tries int
	// Would, if set, is told of every call that would be made, and none is.
	Would func(call string)

	brief bool // gives up soon where nobody is there
}

// Client makes images in one project.
type Client struct {
	opts             Options
	http             *http.Client
	tokens           oauth2.TokenSource // nil: calls carry none
	compute, storage string             // base URLs
}

// Where the APIs are, unless gcloud's api_endpoint_overrides say otherwise.
const (
	computeURL = "https://compute.googleapis.com/compute/v1/"
	storageURL = "https://storage.googleapis.com/"
)

const scope = "https://www.googleapis.com/auth/cloud-platform"

// Open finds credentials and a project, as Google's own libraries and gcloud
// do.
func Open(ctx context.Context, opts Options) (*Client, error) {
	c, err := dial(ctx, opts)
	if err == nil && c.opts.Project == "" {
		return nil, ErrNoProject
	}
	return c, err
}

// dial is Open where the project may be named later.
func dial(ctx context.Context, opts Options) (*Client, error) {
	c := &Client{
		opts:    opts,
		compute: slashed(firstOf(setting("api_endpoint_overrides", "compute"), computeURL)),
		storage: strings.TrimSuffix(slashed(firstOf(setting("api_endpoint_overrides", "storage"), storageURL)), "storage/v1/"),
	}
	if c.opts.Tries == 0 {
		c.opts.Tries = usualTries
	}
	c.opts.Project = firstOf(opts.Project, os.Getenv("GOOGLE_CLOUD_PROJECT"), setting("core", "project"))
	c.opts.Location = firstOf(opts.Location, regionOf(opts.Zone), region())
	if opts.Would != nil && c.opts.Project != "" {
		return c, nil
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Timeout: callTime}) // for tokens
	creds, err := google.FindDefaultCredentials(ctx, scope)
	if err == nil {
		c.opts.Project = firstOf(c.opts.Project, creds.ProjectID)
	}
	if opts.Would == nil {
		if err != nil {
			return nil, &CredentialsError{Err: err}
		}
		c.tokens = creds.TokenSource
		// Nobody but who was asked gets what is sent, and 308 is an answer.
		c.http = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return c, nil
}

// patient is the client for a push, which outlives longer outages than a
// question.
func (c *Client) patient() *Client {
	p := *c
	p.opts.brief = false
	return &p
}

// region is where gcloud's zone or region is, in a location's letters.
func region() string {
	if zone := setting("compute", "zone"); zone != "" {
		if i := strings.LastIndexByte(zone, '-'); i > 0 {
			return zone[:i]
		}
	}
	return setting("compute", "region")
}

func slashed(url string) string { return strings.TrimSuffix(url, "/") + "/" }

// ErrNoProject tells that no project is known.
var ErrNoProject error = &noProject{}

type noProject struct{}

func (*noProject) Error() string { return "it is not known which project of Google Cloud to use" }
func (*noProject) Hint() string  { return "--project NAME, or gcloud config set project NAME" }

// CredentialsError tells that there are no credentials.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string {
	var refused *oauth2.RetrieveError
	if errors.As(e.Err, &refused) {
		return "Google Cloud does not take the credentials: " + firstOf(refused.ErrorDescription, refused.ErrorCode, refused.Response.Status)
	}
	return "there are no credentials for Google Cloud"
}
func (e *CredentialsError) Unwrap() error { return e.Err }

// Is tells whether there are none at all, as Google's library says it.
func (e *CredentialsError) Is(target error) bool {
	return target == hypervisor.ErrNoCredentials && strings.Contains(e.Err.Error(), "could not find default credentials")
}

// Hint is the way out.
func (e *CredentialsError) Hint() string {
	return "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=FILE"
}

// APIError is an answer that is none of those that were hoped for.
type APIError struct {
	Service string
	Status  int
	Message string // Google's own sentence
	Reason  string
}

func (e *APIError) Error() string {
	return fmt.Sprintf("%s answers %d: %s", e.Service, e.Status, firstOf(e.Message, http.StatusText(e.Status)))
}

// Hint tells what may be done about it.
func (e *APIError) Hint() string {
	switch e.Status {
	case http.StatusUnauthorized:
		return "gcloud auth application-default login"
	case http.StatusForbidden:
		return "an account with the roles compute.admin and storage.admin in the project, and both APIs enabled in it"
	case http.StatusTooManyRequests:
		return "again in a while"
	}
	return ""
}

// is tells whether err is an answer with that status.
func is(err error, status int) bool {
	var answer *APIError
	return errors.As(err, &answer) && answer.Status == status
}
