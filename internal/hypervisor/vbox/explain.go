package vbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// startError is why VirtualBox would not run a machine.
type startError struct{ text, hint string }

func (e *startError) Error() string { return e.text }

// Hint is the way out.
func (e *startError) Hint() string { return e.hint }

// refusals are words of VirtualBox's own, mostly the status codes in its
// messages (its include/VBox/err.h and iprt/err.h), and what they mean.
var refusals = []struct {
	words      []string
	text, hint string
}{
	{
		[]string{"VERR_VMX_MSR_ALL_VMX_DISABLED", "VERR_VMX_MSR_VMX_DISABLED", "VERR_VMX_MSR_VMXON_DISABLED", "VERR_SVM_DISABLED", "is disabled in the BIOS"},
		"hardware virtualization (VT-x, AMD-V) is switched off in this host's firmware", "switch it on in the firmware's settings",
	},
	{
		[]string{"VERR_VMX_IN_VMX_ROOT_MODE", "VERR_SVM_IN_USE", "VERR_VMX_MSR_LOCKED_OR_DISABLED", "is being used by another hypervisor"},
		"another hypervisor of this host has the processor's virtualization", "stop its machines; on Linux, unload the module kvm_intel or kvm_amd",
	},
	{
		[]string{"VERR_NEM_NOT_AVAILABLE", "VERR_NEM_VM_CREATE_FAILED", "VERR_NEM_INIT_FAILED", "WHvSetupPartition", "WHvCapabilityCodeHypervisorPresent"},
		"Hyper-V has the processor's virtualization, and does not share it with VirtualBox", "as administrator: bcdedit /set hypervisorlaunchtype off, and restart Windows",
	},
	{
		[]string{"VERR_VMX_NO_VMX", "VERR_SVM_NO_SVM", "VERR_UNSUPPORTED_CPU", "VT-x is not available", "AMD-V is not available"},
		"the processor offers no hardware virtualization (neither VT-x nor AMD-V), which VirtualBox needs", "--on qemu, which can do without, or a host that has it",
	},
	{
		[]string{"VERR_NO_MEMORY", "VERR_NO_PAGE_MEMORY", "VERR_NO_LOW_MEMORY"},
		"this host has too little memory for the machine", "less memory for it (-m), or stop other machines",
	},
	{
		[]string{"VERR_VM_DRIVER_NOT_INSTALLED", "VERR_VM_DRIVER_LOAD_ERROR", "VERR_VM_DRIVER_OPEN_ERROR", "Kernel driver not installed", "kernel driver is either not loaded"},
		errNoModule.Reason, errNoModule.Remedy,
	},
	{
		[]string{"VERR_VM_DRIVER_VERSION_MISMATCH"},
		"VirtualBox's kernel module is of another version than VirtualBox", "restart this host, or reload the module vboxdrv",
	},
	{
		[]string{"VERR_VM_DRIVER_NOT_ACCESSIBLE"},
		"this user may not use VirtualBox's kernel module", "add the user to the group vboxusers, and log in again",
	},
	{
		[]string{"Nonexistent host networking interface", "VERR_SUPDRV_COMPONENT_NOT_FOUND", "Failed to open/create the internal network"},
		"VirtualBox cannot bridge that interface", "VBoxManage list bridgedifs names those that it can",
	},
}

// explain makes one sentence of VirtualBox's refusal to start a machine. The
// refusal itself often says no more than that a process has ended, so that the
// host has to be looked at too.
func explain(ctx context.Context, vbox manager, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	for _, known := range refusals {
		for _, words := range known.words {
			if strings.Contains(r.all, words) {
				return &startError{known.text, known.hint}
			}
		}
	}
	if withoutModule(r.all) {
		return errNoModule
	}
	// VBoxManage lists the host for people alone. Other words of it would cost no
	// more than the better sentence.
	host, hostErr := vbox.run(ctx, "list", "hostinfo")
	if hostErr == nil && strings.Contains(host, "Processor supports HW virtualization: no") {
		return explain(ctx, vbox, &refusal{all: "VERR_VMX_NO_VMX"})
	}
	return &startError{fmt.Sprintf("VirtualBox would not start the machine: %s", r.text), "capstan doctor looks at VirtualBox"}
}
