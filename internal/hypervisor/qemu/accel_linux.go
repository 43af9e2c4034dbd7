package qemu

// hostAccelerator is the platform's own and its probe, which says why it is of
// no use.
func hostAccelerator() (name string, probe func() string) {
	return "kvm", kvmHost{device: "/dev/kvm", cpuinfo: "/proc/cpuinfo", run: timeKVM}.reason
}
