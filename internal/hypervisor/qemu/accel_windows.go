package qemu

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

func hostAccelerator() (name string, probe func() string) { return "whpx", whpxReason }

// whpxReason asks WHvGetCapability (Windows Hypervisor Platform API) for
// WHvCapabilityCodeHypervisorPresent, which is 0.
func whpxReason() string {
	const remedy = ": switch on the Windows feature \"Windows Hypervisor Platform\" and restart"
	get := windows.NewLazySystemDLL("WinHvPlatform.dll").NewProc("WHvGetCapability")
	if get.Find() != nil {
		return "the Windows Hypervisor Platform is not installed" + remedy
	}
	var present, written uint32
	result, _, _ := get.Call(0, uintptr(unsafe.Pointer(&present)), unsafe.Sizeof(present), uintptr(unsafe.Pointer(&written)))
	if result != 0 || present == 0 {
		return "the Windows Hypervisor Platform is not running" + remedy
	}
	return ""
}
