//go:build !linux && !darwin && !windows

package qemu

func hostAccelerator() (name string, probe func() string) { return "", nil }
