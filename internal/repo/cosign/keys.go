package cosign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// maxKeyFile bounds what is read of a key's file.
const maxKeyFile = 64 << 10

// KeyError says what is wrong with a key's file, and what would be right.
type KeyError struct {
	Path   string
	Reason string
	hint   string
}

func (e *KeyError) Error() string { return fmt.Sprintf("key %s: %s", e.Path, e.Reason) }

// Hint says how to make a key that fits.
func (e *KeyError) Hint() string { return e.hint }

const (
	makePublic  = "the public half of a key pair in PEM: cosign.pub, or what openssl ec -pubout prints"
	makePrivate = "openssl ecparam -genkey -name prime256v1 -noout -out key.pem makes one, and openssl ec -in key.pem -pubout its public half; cosign generate-key-pair makes both"
)

// ReadPublicKey reads an ECDSA P-256 public key in PEM. Its errors are
// *KeyError where the file could be read.
func ReadPublicKey(path string) (*ecdsa.PublicKey, error) {
	block, err := readPEM(path, makePublic)
	if err != nil {
		return nil, err
	}
	if block.Type != "PUBLIC KEY" {
		return nil, &KeyError{path, fmt.Sprintf("it holds a %q, and no public key", block.Type), makePublic}
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, &KeyError{path, err.Error(), makePublic}
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, &KeyError{path, "it is no ECDSA P-256 key", makePublic}
	}
	return key, nil
}

// ReadPrivateKey reads an ECDSA P-256 private key in PEM: PKCS #8, SEC 1, or
// encrypted as cosign generate-key-pair does it. passphrase is asked for one
// that is encrypted.
func ReadPrivateKey(path string, passphrase func() ([]byte, error)) (*ecdsa.PrivateKey, error) {
	block, err := readPEM(path, makePrivate)
	if err != nil {
		return nil, err
	}
	der := block.Bytes
	switch block.Type {
	case "ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY":
		secret, err := passphrase()
		if err != nil {
			return nil, fmt.Errorf("reading the key's passphrase: %w", err)
		}
		if der, err = encrypted.Decrypt(der, secret); err != nil {
			return nil, &KeyError{path, "the passphrase does not open it", "the passphrase that it was made with"}
		}
	case "EC PRIVATE KEY":
		key, err := x509.ParseECPrivateKey(der)
		return p256(path, key, err)
	case "PRIVATE KEY":
	default:
		return nil, &KeyError{path, fmt.Sprintf("it holds a %q, and no private key", block.Type), makePrivate}
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err == nil && !ok {
		err = errors.New("it is no ECDSA P-256 key")
	}
	return p256(path, key, err)
}

func p256(path string, key *ecdsa.PrivateKey, err error) (*ecdsa.PrivateKey, error) {
	if err == nil && key.Curve != elliptic.P256() {
		err = errors.New("it is no ECDSA P-256 key")
	}
	if err != nil {
		return nil, &KeyError{path, err.Error(), makePrivate}
	}
	return key, nil
}

// readPEM returns the first block that is not about a curve's parameters,
// which openssl puts in front of the key.
func readPEM(path, hint string) (*pem.Block, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, &KeyError{path, "it is no PEM file", hint}
		}
		if block.Type != "EC PARAMETERS" {
			return block, nil
		}
		text = rest
	}
}
