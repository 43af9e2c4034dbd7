package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// registry returns the registry at host itself.
func (c *Client) registry(host string) (name.Registry, error) {
	p, err := c.place(host, "library/x") // any name will do
	return p.repo.Registry, err
}

// Login asks the registry at host whether it accepts credentials. Of a
// registry that asks for none it tells whether it refuses wrong ones.
func (c *Client) Login(ctx context.Context, host, user, secret string) error {
	reg, err := c.registry(host)
	if err != nil {
		return err
	}
	b, err := c.base(host)
	if err != nil {
		return err
	}
	auth := &authn.Basic{Username: user, Password: secret}
	if err := c.check(ctx, reg, b, auth); err != nil {
		var status *transport.Error
		if errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden) {
			return &Error{Host: host, Reason: "does not accept these credentials", Status: status.StatusCode, Err: err,
				hint: "look at the user's name and the password; some registries want a token in the password's place"}
		}
		return explain(place{host: host}, "login", err)
	}
	return nil
}

// check sends credentials with a request for the API's root, which is what
// registries have for this: OCI distribution specification v1.1, "Determining
// Support".
func (c *Client) check(ctx context.Context, reg name.Registry, b http.RoundTripper, auth *authn.Basic) error {
	challenge, err := transport.Ping(ctx, reg, b)
	if err != nil {
		return err
	}
	scheme := "https"
	if challenge.Insecure {
		scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s://%s/v2/", scheme, reg.RegistryStr()), nil)
	if err != nil {
		return err
	}
	session := &http.Client{Transport: b, CheckRedirect: checkRedirect}
	if challenge.Scheme == "" { // nobody would add them
		req.SetBasicAuth(auth.Username, auth.Password)
	} else if session.Transport, err = transport.NewWithContext(ctx, reg, auth, b, nil); err != nil {
		return err
	}
	resp, err := session.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // to use the connection again
	return transport.CheckError(resp, http.StatusOK)
}
