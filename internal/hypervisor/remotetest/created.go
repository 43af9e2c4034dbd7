package remotetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"capstan/internal/hypervisor"
)

// Created makes a machine, and returns the last handle that was kept of it,
// also with an error. What is called secret in the spec is not to be in it.
func Created(t testing.TB, d hypervisor.Remote, spec *hypervisor.RemoteSpec) (h hypervisor.Handle, err error) {
	t.Helper()
	err = d.Create(t.Context(), spec, func(now hypervisor.Handle) error {
		h = slices.Clone(now)
		return nil
	})
	if strings.Contains(string(h), "secret") {
		t.Errorf("a secret is in the handle %s", h)
	}
	return h, err
}

// Fails makes and starts a machine, which fails with an error that says that,
// and has that hint, and removes what was made of it.
func Fails(t testing.TB, d hypervisor.Remote, spec *hypervisor.RemoteSpec, say, hint string) {
	t.Helper()
	h, err := Created(t, d, spec)
	if err == nil {
		err = d.Start(t.Context(), h)
	}
	var hinted interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), say) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), hint) {
		t.Errorf("%v", err)
	}
	if h != nil { // else nothing was made
		if err := d.Remove(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
}
