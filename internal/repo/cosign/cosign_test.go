package cosign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// writePEM writes a block to a file and returns its path.
func writePEM(t *testing.T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func digestOf(t *testing.T, seed string) v1.Hash {
	t.Helper()
	h, _, err := v1.SHA256(strings.NewReader(seed))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSignAndVerify(t *testing.T) {
	key, other, third := newKey(t, elliptic.P256()), newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	digest := digestOf(t, "image")
	sign := func(k *ecdsa.PrivateKey) Signature {
		s, err := Sign("docker.io/library/redis", digest, k)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := sign(key), sign(other)
	both := []Signature{one, two}
	for _, k := range []*ecdsa.PrivateKey{key, other} {
		if err := Verify(both, digest, &k.PublicKey); err != nil {
			t.Error(err)
		}
	}
	changed := Signature{[]byte(strings.Replace(string(one.Payload), "redis", "other", 1)), one.Annotations}
	exchanged := Signature{one.Payload, two.Annotations}
	for name, err := range map[string]error{
		"another key":           Verify(both, digest, &third.PublicKey),
		"before it signed":      Verify(both[:1], digest, &other.PublicKey),
		"another image":         Verify(both, digestOf(t, "another"), &key.PublicKey),
		"no signatures":         Verify(nil, digest, &key.PublicKey),
		"no signature in one":   Verify([]Signature{{Payload: one.Payload}}, digest, &key.PublicKey),
		"a changed payload":     Verify([]Signature{changed}, digest, &key.PublicKey),
		"an exchanged one":      Verify([]Signature{exchanged}, digest, &key.PublicKey),
		"what is not in base64": Verify([]Signature{{one.Payload, map[string]string{annotation: "?"}}}, digest, &key.PublicKey),
	} {
		if !errors.Is(err, ErrNoSignature) {
			t.Errorf("%s: %v, want %v", name, err, ErrNoSignature)
		}
	}
}

// TestImage: what is stored is read back, and nothing else.
func TestImage(t *testing.T) {
	one := Signature{[]byte("{}"), map[string]string{annotation: "eA==", "other.tool/bundle": "kept"}}
	img, err := Image([]Signature{one, {[]byte("[]"), map[string]string{annotation: "eQ=="}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	blob := func(d v1.Descriptor) ([]byte, error) {
		layer, err := img.LayerByDigest(d.Digest)
		if err != nil {
			return nil, err
		}
		r, err := layer.Compressed()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	got, err := Read(m, blob)
	if err != nil || len(got) != 2 || string(got[0].Payload) != "{}" || got[0].Annotations["other.tool/bundle"] != "kept" {
		t.Errorf("read %+v, %v", got, err)
	}
	m.Layers[0].MediaType = "application/octet-stream"
	m.Layers[1].Size = maxPayload + 1
	if got, err := Read(m, blob); err != nil || len(got) != 0 {
		t.Errorf("read %+v, %v of layers that are no signatures", got, err)
	}
	m.Layers = slices.Repeat([]v1.Descriptor{{MediaType: mediaType, Annotations: one.Annotations}}, maxSignatures+1)
	if _, err := Read(m, func(v1.Descriptor) ([]byte, error) { return nil, nil }); err == nil {
		t.Error("an endless list of signatures was read")
	}
}

// A key that signs anything else than an image signs no image.
func TestOtherPayload(t *testing.T) {
	digest := digestOf(t, "image")
	doc := `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"` + digest.String() + `"},"type":"atomic container signature"},"optional":null}`
	if names([]byte(doc), digest) {
		t.Error("a payload of another type was taken")
	}
	if !names([]byte(strings.Replace(doc, "atomic container signature", payloadType, 1)), digest) {
		t.Error("a payload of the right type was not taken")
	}
	if names([]byte("["), digest) {
		t.Error("what is no JSON was taken")
	}
}

func TestKeys(t *testing.T) {
	key := newKey(t, elliptic.P256())
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1, sec1Err := x509.MarshalECPrivateKey(key)
	locked, lockedErr := encrypted.Encrypt(pkcs8, []byte("sesame"))
	pub, pubErr := x509.MarshalPKIXPublicKey(&key.PublicKey)
	sesame := func() ([]byte, error) { return []byte("sesame"), nil }
	for name, path := range map[string]string{
		"PKCS #8": writePEM(t, "PRIVATE KEY", pkcs8, nil),
		"SEC 1":   writePEM(t, "EC PRIVATE KEY", sec1, sec1Err),
		"cosign":  writePEM(t, "ENCRYPTED SIGSTORE PRIVATE KEY", locked, lockedErr),
	} {
		if got, err := ReadPrivateKey(path, sesame); err != nil || !got.Equal(key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	public := writePEM(t, "PUBLIC KEY", pub, pubErr)
	if got, err := ReadPublicKey(public); err != nil || !got.Equal(&key.PublicKey) {
		t.Errorf("public: %v", err)
	}

	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("only words"), 0o600); err != nil {
		t.Fatal(err)
	}
	p384 := newKey(t, elliptic.P384())
	large, largeErr := x509.MarshalPKCS8PrivateKey(p384)
	largePub, largePubErr := x509.MarshalPKIXPublicKey(&p384.PublicKey)
	for _, tt := range []struct {
		name, path, says string
		private          bool
	}{
		{"text", text, "it is no PEM file", true},
		{"text", text, "it is no PEM file", false},
		{"the public half", public, `it holds a "PUBLIC KEY", and no private key`, true},
		{"the private half", writePEM(t, "PRIVATE KEY", pkcs8, nil), `it holds a "PRIVATE KEY", and no public key`, false},
		{"P-384", writePEM(t, "PRIVATE KEY", large, largeErr), "it is no ECDSA P-256 key", true},
		{"P-384", writePEM(t, "PUBLIC KEY", largePub, largePubErr), "it is no ECDSA P-256 key", false},
		{"wrong passphrase", writePEM(t, "ENCRYPTED COSIGN PRIVATE KEY", locked, lockedErr), "the passphrase does not open it", true},
	} {
		var err error
		if tt.private {
			_, err = ReadPrivateKey(tt.path, func() ([]byte, error) { return []byte("wrong"), nil })
		} else {
			_, err = ReadPublicKey(tt.path)
		}
		var keyErr *KeyError
		if !errors.As(err, &keyErr) || keyErr.Reason != tt.says || keyErr.Hint() == "" {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}
