package hypervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// FindProgram returns the absolute path of a hypervisor's program: of asked,
// a path or a name to look up in the PATH, or where that is "", of the first of
// usual that there is. It starts nothing.
func FindProgram(asked string, usual ...string) (string, error) {
	if asked != "" {
		usual = []string{asked}
	}
	err := exec.ErrNotFound
	for _, candidate := range usual {
		var path string
		if path, err = exec.LookPath(candidate); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", err
}

// CheckBootable says why a product that boots no kernel cannot boot spec's disk,
// where it would complain of that at length, or not at all.
func CheckBootable(product string, spec *Spec) error {
	if spec.Bootable == "" {
		return errors.New(product + " boots no kernel: the instance has no disk that boots by itself")
	}
	f, err := os.OpenFile(spec.Bootable, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening the instance's disk: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("opening the instance's disk: %w", err)
	}
	return nil
}
