//go:build e2e && linux && amd64

package vbox

import (
	"testing"

	"capstan/internal/hypervisor/drivertest"
	"capstan/internal/hypervisor/vbox/vboxtest"
)

const repo = "../../.."

func TestConformance(t *testing.T) {
	v := vboxtest.New(t, repo)
	drivertest.Run(t, New(Options{Path: v.Path}), drivertest.DiskSpec(minMemory), drivertest.Kernel(t, repo))
}
