package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"capstan/internal/image/disk/disktest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"capstan": main})
}

// TestScript runs what a user types. Boots are in test/e2e.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("CAPSTAN_ROOT", filepath.Join(env.WorkDir, ".capstan"))
			self, err := os.Executable()
			env.Setenv("SELF", self)                       // a program of this host, to pack
			loader := filepath.Join(env.WorkDir, "loader") // of OSv
			env.Setenv("LOADER", loader)
			return errors.Join(err, os.WriteFile(loader, disktest.BIOS("/default.so", false), 0o600))
		},
	})
}
