package qemu

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
)

// Accelerator is one way in which QEMU may run a guest.
type Accelerator struct {
	// Name is as QEMU's -accel takes it: "kvm", "hvf", "whpx" or "tcg".
	Name string
	// Works tells whether it is of use: not that it is there, but that it
	// runs a guest at the processor's speed.
	Works bool
	// Reason is why it does not work, one clause without a full stop.
	Reason string
}

// Accelerators are those of this host, best first. The last is always "tcg",
// which works everywhere and is slow.
func Accelerators() []Accelerator {
	emulator := Accelerator{Name: "tcg", Works: true}
	name, probe := hostAccelerator()
	if name == "" {
		return []Accelerator{emulator}
	}
	best := Accelerator{Name: name}
	if runtime.GOARCH != guestArch {
		best.Reason = "the guest is " + guestArch + " and this host is " + runtime.GOARCH
	} else {
		best.Reason = probe()
	}
	best.Works = best.Reason == ""
	return []Accelerator{best, emulator}
}

// ProbeAccel is the best accelerator that works, and where that is "tcg", why
// it is not a better one.
func ProbeAccel() (name, why string) {
	all := Accelerators()
	best := all[slices.IndexFunc(all, func(a Accelerator) bool { return a.Works })]
	if best.Name != "tcg" {
		return best.Name, ""
	}
	if len(all) == 1 {
		return best.Name, "there is no hypervisor that QEMU could use on " + runtime.GOOS
	}
	return best.Name, all[0].Reason
}

// The stages of the KVM probe, apart for the sake of tests.
type kvmHost struct {
	device  string // "/dev/kvm"
	cpuinfo string // "/proc/cpuinfo"
	// run times a guest on the open device: an error says why it is of no use.
	run func(device *os.File) error
}

// reason says why KVM is of no use, or "".
func (h kvmHost) reason() string {
	// First, for without it no permission and no device would help. Such a
	// processor may have a KVM all the same, slower than QEMU's emulation.
	if !cpuVirtualizes(h.cpuinfo) {
		return "the processor offers no hardware virtualization (neither vmx nor svm)"
	}
	device, err := os.OpenFile(h.device, os.O_RDWR, 0)
	if err != nil {
		return h.openReason(err)
	}
	defer device.Close()
	if err := h.run(device); err != nil {
		return err.Error()
	}
	return ""
}

func (h kvmHost) openReason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no " + h.device + ": virtualization is switched off in the firmware, or the module kvm is not loaded"
	case errors.Is(err, fs.ErrPermission):
		return "no permission to open " + h.device + ": add yourself to the group kvm and log in again"
	}
	return "KVM cannot be opened: " + err.Error()
}

// cpuVirtualizes looks for vmx or svm in the flags of the first processor.
func cpuVirtualizes(cpuinfo string) bool {
	f, err := os.Open(cpuinfo)
	if err != nil {
		return false
	}
	defer f.Close()
	// One processor has about 2 KiB; reading those of a large machine costs
	// tens of milliseconds.
	head, err := io.ReadAll(io.LimitReader(f, 8<<10))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(head) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		if string(bytes.TrimSpace(key)) != "flags" {
			continue
		}
		return slices.ContainsFunc(bytes.Fields(value), func(flag []byte) bool {
			return string(flag) == "vmx" || string(flag) == "svm"
		})
	}
	return false
}
