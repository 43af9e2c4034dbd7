package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"capstan/internal/repo/registrytest"
)

// TestRegistryScript runs what a user types where there are registries: an open
// one and one that wants a login.
func TestRegistryScript(t *testing.T) {
	open := registrytest.Start(t, registrytest.Options{})
	closed := registrytest.Start(t, registrytest.Options{Auth: true})
	crane := registrytest.Crane(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/registry",
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"CAPSTAN_ROOT": filepath.Join(env.WorkDir, ".capstan"),
				"HOME":         env.WorkDir, "DOCKER_CONFIG": filepath.Join(env.WorkDir, "docker"),
				"OPEN": open.Host, "CLOSED": closed.Host, "CAPSTAN_REGISTRIES": open.Host,
				"NAME": registrytest.User, "CRANE": crane,
			} {
				env.Setenv(name, value)
			}
			return errors.Join(
				os.WriteFile(filepath.Join(env.WorkDir, "password"), []byte(registrytest.Password+"\n"), 0o600),
				keyPair(filepath.Join(env.WorkDir, "ours")), keyPair(filepath.Join(env.WorkDir, "theirs")),
			)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"expand": expand},
	})
}

// keyPair makes path.key and path.pub.
func keyPair(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(path+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600),
	)
}

// expand writes a file anew with the variables in it in the place of their
// names.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand file")
	}
	path := ts.MkAbs(args[0])
	text := os.Expand(ts.ReadFile(path), ts.Getenv)
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
}
