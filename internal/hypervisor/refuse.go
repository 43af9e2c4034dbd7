package hypervisor

import (
	"fmt"
	"slices"
	"strings"
)

// CannotError says that a platform has not got what was asked of it.
type CannotError struct {
	Platform string
	What     string // "share directories of this host"
	Remedy   string // what it can; may be empty
}

func (e *CannotError) Error() string {
	return fmt.Sprintf("the %s driver cannot %s", e.Platform, e.What)
}

// Hint is the way out.
func (e *CannotError) Hint() string { return e.Remedy }

// Refuse returns a *CannotError for the first thing in spec that the driver's
// platform cannot do.
func Refuse(d Platform, spec *Spec) error {
	can := d.Capabilities()
	cannot := func(remedy, format string, args ...any) error {
		return &CannotError{d.Name(), fmt.Sprintf(format, args...), remedy}
	}
	for _, p := range spec.Ports {
		switch {
		case can.Away && !can.Ports:
			return cannot("leave -p out: capstan ps shows the address", "forward ports of this host: the machine has an address of its own")
		case !can.Ports:
			return cannot("leave the ports out", "forward ports of this host")
		case p.Protocol == "udp" && !can.UDP:
			return cannot("forward TCP alone", "forward UDP, as %s asks", p)
		case p.Host.Is6() && !p.Host.Is4In6() && !can.IPv6:
			return cannot("an IPv4 address, such as 127.0.0.1", "forward from the IPv6 address %s", p.Host)
		}
	}
	if spec.Bridge != "" && !can.Bridges {
		return cannot("leave --network out", "put a machine into the network of the interface %s", spec.Bridge)
	}
	if spec.Guest.Network.None && can.Cloud {
		return cannot("leave --network out", "run a machine without a network: by it the machine is told what to run")
	}
	if spec.Guest.Root.ReadOnly && can.Cloud {
		return cannot("leave --read-only out", "mount the root without any place to write: the image's disk has one")
	}
	if spec.Guest.Stdin && can.Away {
		return cannot("leave -i out", "connect standard input")
	}
	if len(spec.Shares) > 0 && !can.Shares {
		return cannot("put the files into the image", "share directories of this host")
	}
	if can.CPUs > 0 && spec.CPUs > can.CPUs {
		return cannot(fmt.Sprintf("%d or fewer", can.CPUs), "give a machine %d CPUs", spec.CPUs)
	}
	if spec.Memory < can.Memory {
		return cannot(fmt.Sprintf("-m %dM", can.Memory>>20), "run a machine with %d MiB of memory", spec.Memory>>20)
	}
	if can.Disk == "" && spec.Bootable != "" {
		return cannot("make the instance anew", "boot a disk that holds the guest")
	}
	if can.Disk != "" && len(spec.Disks) > 0 {
		return cannot("make the instance anew", "attach disks beside the one that holds the guest")
	}
	if s := spec.System; s != nil && !slices.Contains(can.Firmware, s.Firmware) {
		return cannot("--on qemu", "boot a disk by %s", strings.ToUpper(string(s.Firmware)))
	}
	if spec.Accel != "" && len(can.Accels) == 0 {
		return cannot("leave --accel out", "be told how to accelerate a machine")
	}
	if spec.Accel != "" && !slices.Contains(can.Accels, spec.Accel) {
		return cannot("one of "+strings.Join(can.Accels, ", "), "accelerate a machine by %q", spec.Accel)
	}
	return nil
}
