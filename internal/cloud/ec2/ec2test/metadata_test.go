//go:build linux

package ec2test

import (
	"io"
	"net"
	"net/http"
	"testing"
)

// TestMetadata: nothing is told without a token, which is asked for as EC2
// documents it.
func TestMetadata(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		(&machine{userData: []byte("a config")}).serveMetadata(l)
		close(ended)
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	const tokenHeader, ttlHeader, data = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds", "/latest/user-data"
	ask := func(method, path, name, value string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(name, value)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	status, token := ask("PUT", "/latest/api/token", ttlHeader, "60")
	if status != http.StatusOK || token == "" {
		t.Fatalf("the token is %d, %q", status, token)
	}
	for _, c := range []struct {
		method, path, name, value string
		want                      int
	}{
		{"PUT", "/latest/api/token", ttlHeader, "", http.StatusBadRequest},
		{"PUT", "/latest/api/token", ttlHeader, "21601", http.StatusBadRequest},
		{"GET", data, "Accept", "*/*", http.StatusUnauthorized},
		{"GET", data, tokenHeader, "another", http.StatusUnauthorized},
		{"GET", "/latest/nothing", tokenHeader, token, http.StatusNotFound},
	} {
		if status, _ := ask(c.method, c.path, c.name, c.value); status != c.want {
			t.Errorf("%s %s with %s %q: %d, not %d", c.method, c.path, c.name, c.value, status, c.want)
		}
	}
	if status, text := ask("GET", data, tokenHeader, token); status != http.StatusOK || text != "a config" {
		t.Errorf("the user data is %d, %q", status, text)
	}
}
