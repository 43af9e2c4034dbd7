//go:build e2e && linux && amd64

package vmware

import (
	"testing"

	"capstan/internal/hypervisor/drivertest"
	"capstan/internal/hypervisor/vmware/vmwaretest"
)

const repo = "../../.."

func TestConformance(t *testing.T) {
	drivertest.Run(t, New(Options{Path: vmwaretest.New(t, repo)}), drivertest.DiskSpec(minMemory), drivertest.Kernel(t, repo))
}
