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
func Refuse(d Driver, spec *Spec) error {
	can := d.Capabilities()
	cannot := func(remedy, format string, args ...any) error {
		return &CannotError{d.Name(), fmt.Sprintf(format, args...), remedy}
	}
	for _, p := range spec.Ports {
		switch {
		case !can.Ports:
			return cannot("leave the ports out", "forward ports of this host")
		case p.Protocol == "udp" && !can.UDP:
			return cannot("forward TCP alone", "forward UDP, as %s asks", p)
		case p.Host.Is6() && !p.Host.Is4In6() && !can.IPv6:
			return cannot("an IPv4 address, such as 127.0.0.1", "forward from the IPv6 address %s", p.Host)
		}
	}
	if len(spec.Shares) > 0 && !can.Shares {
		return cannot("put the files into the image", "share directories of this host")
	}
	if can.CPUs > 0 && spec.CPUs > can.CPUs {
		return cannot(fmt.Sprintf("%d or fewer", can.CPUs), "give a machine %d CPUs", spec.CPUs)
	}
	if s := spec.System; s != nil && !slices.Contains(can.Firmware, s.Firmware) {
		return cannot("--on qemu", "boot a disk by %s", strings.ToUpper(string(s.Firmware)))
	}
	if spec.Accel != "" && !slices.Contains(can.Accels, spec.Accel) {
		return cannot("one of "+strings.Join(can.Accels, ", "), "accelerate a machine by %q", spec.Accel)
	}
	return nil
}
