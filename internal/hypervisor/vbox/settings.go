package vbox

import (
	"fmt"
	"strconv"

	"capstan/internal/hypervisor"
)

// minMemory is what VirtualBox's EFI firmware and the guest come up with, in
// bytes.
const minMemory = 128 << 20

// Serial ports of a machine, in their order.
const (
	lineKernel = iota
	lineConsole
	lineControl
	lineCount
)

// uarts are where a PC's serial ports are. The third has an interrupt of its
// own: by tradition it shares the first's, which two open ports cannot.
var uarts = [lineCount][2]string{{"0x3F8", "4"}, {"0x2F8", "3"}, {"0x3E8", "5"}}

// settings are the commands that make a machine, in order.
func settings(spec *hypervisor.Spec, r record, lines []string, ports []hypervisor.Port) [][]string {
	const controller = "disk"
	modify := []string{
		"modifyvm", r.UUID,
		"--memory", strconv.FormatInt((spec.Memory+1<<20-1)>>20, 10), "--cpus", strconv.Itoa(max(spec.CPUs, 1)),
		"--firmware", "efi64", "--ioapic", "on", "--x2apic", "on", "--rtcuseutc", "on",
		"--graphicscontroller", "vmsvga", "--vram", "8", "--audio-driver", "none", "--usb", "off",
		"--boot1", "disk", "--boot2", "none", "--boot3", "none", "--boot4", "none",
	}
	for i, uart := range uarts {
		n := strconv.Itoa(i + 1)
		modify = append(modify, "--uart"+n, uart[0], uart[1], "--uartmode"+n, "client", lines[i])
	}
	modify = append(modify, network(spec, ports)...)
	return [][]string{
		{"createvm", "--name", r.Name, "--uuid", r.UUID, "--ostype", "Linux26_64", "--basefolder", folder(spec.Dir), "--register"},
		modify,
		// A guest that resets has ended.
		{"setextradata", r.UUID, "VBoxInternal2/TurnResetIntoPowerOff", "1"},
		{"storagectl", r.UUID, "--name", controller, "--add", "sata", "--controller", "IntelAhci", "--portcount", "1", "--bootable", "on"},
		{"storageattach", r.UUID, "--storagectl", controller, "--port", "0", "--device", "0", "--type", "hdd", "--medium", spec.Bootable},
	}
}

func network(spec *hypervisor.Spec, ports []hypervisor.Port) []string {
	switch {
	case spec.Guest.Network.None:
		return []string{"--nic1", "none"}
	case spec.Bridge != "":
		return []string{"--nic1", "bridged", "--nictype1", "virtio", "--bridgeadapter1", spec.Bridge}
	}
	args := []string{"--nic1", "nat", "--nictype1", "virtio"}
	for i, p := range ports {
		host := p.Host.String()
		if p.Host.IsUnspecified() {
			host = ""
		}
		args = append(args, "--natpf1", fmt.Sprintf("port%d,%s,%s,%d,,%d", i, p.Protocol, host, p.HostPort, p.Guest))
	}
	return args
}
