package remote

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"capstan/internal/repo/registrytest"
)

// keys is a keychain with one password for one registry.
type keys struct{ host string }

func (k keys) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() != k.host {
		return authn.Anonymous, nil
	}
	return &authn.Basic{Username: registrytest.User, Password: registrytest.Password}, nil
}

// TestTokens has a registry that wants a token of a server that it names:
// distribution.github.io, "Token Authentication Specification".
func TestTokens(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	img := randomImage(t, 2)
	publish(t, reg.Host+"/team/app:1", img)
	var mu sync.Mutex
	given, expired := 0, 0
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok || user != registrytest.User || password != registrytest.Password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		given++
		fmt.Fprintf(w, `{"token":"token%d"}`, given)
	}))
	defer tokens.Close()
	realm := strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1)
	front := registrytest.Front(t, reg, func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(r.Header.Get("Authorization"), "Basic ") {
			t.Error("the registry was sent the password")
		}
		// Each token is good for three requests.
		if r.Header.Get("Authorization") == fmt.Sprintf("Bearer token%d", given) && given > 0 {
			if expired++; expired%4 != 0 {
				return false
			}
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="test",scope="repository:team/app:pull"`, realm+"/token"))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}, nil)
	n := imageName(t, front.Host+"/team/app:1")
	found, err := quick(Options{Keychain: keys{front.Host}}).Image(t.Context(), n, linux)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range found.Layers {
		var buf buffer
		if err := found.Download(t.Context(), l, &buf); err != nil || buf.Size() != l.Size {
			t.Errorf("Download: %d bytes, %v", buf.Size(), err)
		}
	}
	if given < 2 {
		t.Errorf("%d tokens were given, and one does not do", given)
	}
	if _, err := quick(Options{}).Image(t.Context(), n, linux); err == nil || !strings.Contains(err.Error(), "wants other credentials") {
		t.Errorf("without a password: %v", err)
	}
}
