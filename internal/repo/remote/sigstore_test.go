package remote_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"capstan/internal/repo"
	"capstan/internal/repo/cosign"
	"capstan/internal/repo/registrytest"
	"capstan/internal/repo/remote"
)

// TestSigstore: the library of podman and skopeo, which knows nothing of us,
// accepts what we sign and nothing else, and we accept what it signs.
func TestSigstore(t *testing.T) {
	ctx, sigstore := context.Background(), registrytest.Sigstore(t)
	host := registrytest.Start(t, registrytest.Options{}).Host
	key, other := newKey(t), newKey(t)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := encrypted.Encrypt(pkcs8, []byte("sesame"))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private := file("cosign.key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED COSIGN PRIVATE KEY", Bytes: locked}))
	public := file("cosign.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}))
	strict := file("strict.json", fmt.Appendf(nil, `{"default": [{"type": "reject"}], "transports": {"docker": {%q:
		[{"type": "sigstoreSigned", "keyPath": %q, "signedIdentity": {"type": "matchRepository"}}]}}}`, host, public))
	lax := file("lax.json", []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`))
	settings := filepath.Dir(file("registries.d/default.yaml", []byte("docker:\n  "+host+":\n    use-sigstore-attachments: true\n")))
	copied := func(policy string, args ...string) error {
		out, err := exec.Command(sigstore, append([]string{policy, settings}, args...)...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}

	client := remote.New(remote.Options{})
	app := parse(t, host+"/team/app:1")
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := ggcr.Write(reference(t, app), img); err != nil {
		t.Fatal(err)
	}
	digest, err := client.Digest(ctx, app)
	if err != nil {
		t.Fatal(err)
	}
	pull := func() error { return copied(strict, app.String(), t.TempDir()) }
	sign := func(k *ecdsa.PrivateKey) {
		s, err := cosign.Sign(app.Repository(), digest, k)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.AddSignature(ctx, app, digest, s); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(n repo.Name, k *ecdsa.PrivateKey) error {
		signatures, err := client.Signatures(ctx, n, digest)
		if err != nil {
			t.Fatal(err)
		}
		return cosign.Verify(signatures, digest, &k.PublicKey)
	}
	if pull() == nil || !errors.Is(verify(app, key), cosign.ErrNoSignature) {
		t.Error("an image without signatures was taken")
	}
	sign(other)
	if pull() == nil || !errors.Is(verify(app, key), cosign.ErrNoSignature) {
		t.Error("an image that another key has signed was taken")
	}
	sign(key)
	if err := errors.Join(pull(), verify(app, key), verify(app, other)); err != nil {
		t.Error(err)
	}

	theirs := parse(t, host+"/team/theirs:1")
	if err := copied(lax, app.String(), theirs.String(), private, file("passphrase", []byte("sesame"))); err != nil {
		t.Fatal(err)
	}
	if err := verify(theirs, key); err != nil {
		t.Error(err)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func parse(t *testing.T, s string) repo.Name {
	t.Helper()
	n, err := repo.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func reference(t *testing.T, n repo.Name) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(n.String())
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
