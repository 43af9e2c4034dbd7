package remote

import (
	"strings"
	"testing"

	"capstan/internal/repo"
	"capstan/internal/repo/registrytest"
)

func TestLogin(t *testing.T) {
	open := registrytest.Start(t, registrytest.Options{})
	closed := registrytest.Start(t, registrytest.Options{Auth: true})
	secure := registrytest.Start(t, registrytest.Options{Auth: true, TLS: true})
	trusting := New(Options{Registries: repo.Registries{{Host: secure.Host, CAFile: secure.CAFile}}})
	for _, c := range []struct {
		name, host, secret, want string
		client                   *Client
	}{
		{"right", closed.Host, registrytest.Password, "", New(Options{})},
		{"wrong", closed.Host, "x", "does not accept these credentials", New(Options{})},
		{"open", open.Host, "whatever", "", New(Options{})},
		{"right by HTTPS", secure.Host, registrytest.Password, "", trusting},
		{"wrong by HTTPS", secure.Host, "x", "does not accept these credentials", trusting},
		{"an unknown CA", secure.Host, registrytest.Password, "has a certificate that is not trusted", New(Options{})},
	} {
		err := c.client.Login(t.Context(), c.host, registrytest.User, c.secret)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), registrytest.Password)) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}
