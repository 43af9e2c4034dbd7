package qemu

import "golang.org/x/sys/unix"

func hostAccelerator() (name string, probe func() string) { return "hvf", hvfReason }

// hvfReason asks what Apple's Hypervisor.framework documents: the sysctl
// kern.hv_support.
func hvfReason() string {
	if yes, err := unix.SysctlUint32("kern.hv_support"); err != nil || yes == 0 {
		return "this Mac does not support Hypervisor.framework (sysctl kern.hv_support)"
	}
	return ""
}
