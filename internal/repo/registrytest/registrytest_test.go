package registrytest

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"testing"
)

func TestStart(t *testing.T) {
	for _, opts := range []Options{{}, {Auth: true}, {TLS: true}, {TLS: true, Auth: true}, {Other: true}} {
		r := Start(t, opts)
		want := http.StatusOK
		if opts.Auth {
			want = http.StatusUnauthorized
		}
		if got := status(t, r, "", ""); got != want {
			t.Errorf("%+v: without a password: status %d, want %d", opts, got, want)
		}
		if got := status(t, r, User, Password); got != http.StatusOK {
			t.Errorf("%+v: with the password: status %d", opts, got)
		}
		again := Start(t, Options{Dir: r.Dir})
		again.Stop()
		again.Stop()
		if resp, err := http.Get(again.URL() + "/v2/"); err == nil {
			resp.Body.Close()
			t.Errorf("a registry that was stopped answers %s", resp.Status)
		}
	}
}

// status asks for the API's base and returns the answer's status.
func status(t *testing.T, r *Registry, user, password string) int {
	t.Helper()
	pool := x509.NewCertPool()
	if r.CAFile != "" {
		ca, err := os.ReadFile(r.CAFile)
		if err != nil || !pool.AppendCertsFromPEM(ca) {
			t.Fatalf("reading the CA: %v", err)
		}
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL()+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestCrane(t *testing.T) {
	if out, err := exec.Command(Crane(t), "version").CombinedOutput(); err != nil {
		t.Errorf("crane: %v: %s", err, out)
	}
}
