package qemu

import (
	"os"
	"testing"
	"time"
)

// Where there is a KVM that can be opened, what its guest's speed says agrees
// with the processor's flags: the probe looks at both because either may lie.
func TestTimeKVM(t *testing.T) {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Logf("this host has no KVM to time: %v", err)
		return
	}
	defer device.Close()
	start := time.Now()
	err = timeKVM(device)
	t.Logf("%v in %v", err, time.Since(start))
	if (err == nil) != cpuVirtualizes("/proc/cpuinfo") {
		t.Errorf("got %v", err)
	}
}

func TestTimeKVMOfNoKVM(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := timeKVM(f); err == nil {
		t.Error("the null device is a KVM")
	}
}
