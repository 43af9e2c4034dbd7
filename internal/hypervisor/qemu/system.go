package qemu

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"capstan/internal/hypervisor"
	"capstan/internal/image/disk"
)

// Machine types for systems of which nothing is known: the one that disks of
// old Capstan's time were made for, and the one that has SATA and that UEFI
// firmware is built for.
const (
	systemPC  = "system pc"
	systemQ35 = "system q35"
)

func systemMachine(s *hypervisor.System) string {
	if s.Firmware == hypervisor.UEFI || s.Bus == hypervisor.SATA {
		return systemQ35
	}
	return systemPC
}

// node is the part of QAPI's BlockdevOptions that a system's disk takes.
type node struct {
	Driver   string  `json:"driver"`
	NodeName string  `json:"node-name,omitempty"`
	ReadOnly bool    `json:"read-only"`
	Discard  string  `json:"discard,omitempty"`
	Filename string  `json:"filename,omitempty"`
	Locking  string  `json:"locking,omitempty"`
	File     *node   `json:"file,omitempty"`
	Backing  backing `json:"backing,omitempty"`
}

// backing is another node, or JSON's null, which says that there is none
// whatever the file says.
type backing any

// chain is the graph of a system's disk, in full: QEMU opens nothing that is
// only named in a file.
func (l *launch) chain() node {
	s := l.spec.System
	base := &node{Driver: s.Format.QEMU(), ReadOnly: true, File: &node{Driver: "file", ReadOnly: true, Filename: s.Base}}
	if s.Format == disk.QCOW2 || s.Format == disk.VMDK {
		base.Backing = json.RawMessage("null")
	}
	locking := "auto"
	if l.goos == "linux" {
		locking = "on"
	}
	return node{
		Driver: "qcow2", NodeName: "system", Discard: "unmap", Backing: base,
		File: &node{Driver: "file", Filename: s.Disk, Discard: "unmap", Locking: locking},
	}
}

// system attaches the disk with what a system of any age may expect: a serial
// port, a display that nobody sees, and the firmware that boots it.
func (l *launch) system() []string {
	doc, err := json.Marshal(l.chain())
	if err != nil {
		panic(err) // a struct of bools and strings always marshals
	}
	device := map[hypervisor.Bus]string{
		hypervisor.Virtio: "virtio-blk-pci", hypervisor.IDE: "ide-hd,bus=ide.0", hypervisor.SATA: "ide-hd,bus=ide.0",
	}[l.spec.System.Bus]
	args := []string{
		"-serial", "chardev:console", "-device", "VGA", "-boot", "order=c,menu=off",
		"-blockdev", string(doc), "-device", device + ",drive=system,bootindex=0",
	}
	if l.spec.System.Firmware != hypervisor.UEFI {
		return args
	}
	for unit, file := range []string{l.firmware.code, l.firmware.vars} {
		args = append(args, "-drive", "if=pflash,format=raw,unit="+strconv.Itoa(unit)+",readonly="+onOff(unit == 0)+",file="+escape(file))
	}
	return args
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// checkSystem refuses what would be no option of QEMU's.
func checkSystem(s *hypervisor.System) error {
	switch {
	case s == nil:
		return nil
	case !slices.Contains(disk.Formats(), s.Format):
		return fmt.Errorf("a disk of format %q cannot be attached", s.Format)
	case s.Firmware != hypervisor.BIOS && s.Firmware != hypervisor.UEFI:
		return fmt.Errorf("firmware %q is neither bios nor uefi", s.Firmware)
	case s.Bus != hypervisor.Virtio && s.Bus != hypervisor.IDE && s.Bus != hypervisor.SATA:
		return fmt.Errorf("bus %q is none of virtio, ide and sata", s.Bus)
	case s.Bus == hypervisor.IDE && s.Firmware == hypervisor.UEFI:
		return fmt.Errorf("a machine with UEFI firmware has no IDE: take the bus sata or virtio")
	case strings.ContainsRune(s.Disk+s.Base, 0):
		return fmt.Errorf("a disk's path cannot hold a zero byte")
	}
	return nil
}
